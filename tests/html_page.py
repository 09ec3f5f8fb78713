"""A page of HTML as its texts, tables and attributes, by the parser of the standard library."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br"}


class Element:
    """A tag with its attributes and what is in it."""

    def __init__(self, tag, attributes, parent=None):
        self.tag, self.attributes, self.parent, self.children = tag, dict(attributes), parent, []

    def all(self, tag=None, **attributes):
        """Elements within, in their order; `kind` is a word of the attribute class."""
        kind = attributes.pop("kind", None)
        for child in self.children:
            if isinstance(child, Element):
                fits = tag in (None, child.tag) and attributes.items() <= child.attributes.items()
                if fits and (kind is None or kind in child.attributes.get("class", "").split()):
                    yield child
                yield from child.all(tag, **attributes, **({"kind": kind} if kind else {}))

    def one(self, tag=None, **attributes):
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self):
        """All text within, with single spaces."""
        return " ".join("".join(self._texts()).split())

    def _texts(self):
        for child in self.children:
            yield from child._texts() if isinstance(child, Element) else [child]

    def rows(self, part="tbody"):
        """The texts of a table's cells."""
        return [
            [cell.text for cell in row.children if isinstance(cell, Element)]
            for body in self.all(part)
            for row in body.all("tr")
        ]


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.here = Element("root", {})

    def handle_starttag(self, tag, attrs):
        element = Element(tag, attrs, self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag):
        assert self.here.tag == tag, f"</{tag}> ends <{self.here.tag}>"
        self.here = self.here.parent

    def handle_startendtag(self, tag, attrs):
        self.here.children.append(Element(tag, attrs, self.here))

    def handle_data(self, data):
        self.here.children.append(data)


def parsed(text):
    """The root of a page; every tag in it must be closed where it was opened."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser.here is parser.root
    return parser.root
