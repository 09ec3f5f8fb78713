"""A page in Chromium: it asks nobody for anything, fits a phone, and reads without its script."""

import chromium
import pytest

pytestmark = pytest.mark.browser

SECTIONS = [
    *("training", "confusion", "classes", "pairs", "looks", "suspects"),
    *("gates", "cost", "recipe"),
]


@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def visit(browser, written):
    """visit(**options of a context) -> the page; nothing on it may fail, break its policy or ask
    for another file.
    """
    contexts, wrong = [], []

    def visit(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((written.as_uri(), "data:")) or wrong.append(request.url)
            ),
        )
        page.goto(written.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def sections(page):
    return [each.get_attribute("id") for each in page.locator("section").all() if each.is_visible()]


def column(page, index):
    return [
        row.locator("td, th").nth(index).text_content()
        for row in page.locator("#classes tbody tr").all()
    ]


def test_everything_is_there(visit):
    page = visit()
    assert sections(page) == SECTIONS
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_without_script_it_reads_the_same(visit):
    scripted, plain = visit(), visit(java_script_enabled=False)
    assert sections(plain) == SECTIONS
    assert plain.locator("th button").count() == 0
    assert column(plain, 1) == column(scripted, 1)
    plain.locator("#recipe summary").last.click()
    assert plain.locator("#recipe code").last.is_visible()


def test_a_click_sorts_and_another_one_turns_around(visit):
    page = visit()
    before = column(page, 3)
    header = page.locator("#classes th", has_text="top-1")
    header.locator("button").click()
    rising = sorted(before, key=lambda text: float(text.rstrip("%")))
    assert column(page, 3) == rising
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").press("Enter")
    assert [float(text.rstrip("%")) for text in column(page, 3)] == [
        float(text.rstrip("%")) for text in rising[::-1]
    ]
    assert header.get_attribute("aria-sort") == "descending"
    page.locator("#classes th button").first.click()
    assert column(page, 0) == page.evaluate(
        "(names) => names.sort((a, b) => a.localeCompare(b))", column(page, 0)
    )
    assert header.get_attribute("aria-sort") is None


def test_the_pointer_reads_a_curve(visit):
    page = visit()
    chart = page.locator(".chart").first
    texts = chart.evaluate("(chart) => JSON.parse(chart.dataset.readout).texts")
    box = chart.locator(".area").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    assert chart.locator(".at").text_content() == "epoch 1"
    assert chart.locator(".value").all_text_contents() == [of[0] for of in texts]
    page.mouse.move(0, 0)
    assert chart.locator(".value").all_text_contents() == [of[-1] for of in texts]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(visit, width):
    page = visit(viewport={"width": width, "height": 740})
    for summary in page.locator("summary").all():
        if summary.evaluate("(summary) => !summary.parentElement.open"):
            summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    right = """Math.max(...[...document.querySelectorAll("section, figure, header, footer")]
        .map((element) => element.getBoundingClientRect().right))"""
    assert page.evaluate(right) <= width


def contrast(page, selector):
    """Of an element's text to the card under it, by WCAG's formula."""
    script = """(element) => {
        const luminance = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map((n) => n / 255)
                .map((n) => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const card = getComputedStyle(document.querySelector("section")).backgroundColor;
        const both = [luminance(getComputedStyle(element).color), luminance(card)];
        const [a, b] = both.sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    }"""
    return page.locator(selector).first.evaluate(script)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(visit, scheme):
    page = visit(color_scheme=scheme)
    red = page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (red < 128) == (scheme == "dark")
    for selector in ("h2", ".note", "#recipe .meaning", "summary", ".legend b", "#classes th"):
        assert contrast(page, selector) >= 4.5, selector


def test_what_is_printed_has_all_columns(visit):
    page = visit(viewport={"width": 700, "height": 900})
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert sections(page) == SECTIONS
    assert page.pdf().startswith(b"%PDF")
