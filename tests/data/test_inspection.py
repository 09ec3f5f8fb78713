"""What `keras-senet data` finds in images, beside Pillow, hashlib and what was put there."""

import csv
import io
import json
import os

import numpy as np
import pytest
from data.files import encode, example, picture, prepare
from PIL import Image, ImageOps

from keras_senet import cli
from keras_senet.images.duplicates import Duplicates, find_duplicates
from keras_senet.images.facts import Item
from keras_senet.images.inspection import Inspection, inspect, list_items
from keras_senet.images.layout import read_layout

RGB = Image.fromarray(picture(40, 56, 1))
GREY = RGB.convert("L")
RGBA = RGB.copy()
RGBA.putalpha(GREY)
PALETTE = RGB.convert("P")
DEEP = Image.fromarray(np.asarray(GREY, "uint16") * 257)
TWO = [RGB, Image.fromarray(picture(40, 56, 2))]


def turned(orientation, kind="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(RGB, kind, exif=exif)


FILES = {
    "RGB.jpg": encode(RGB),
    "progressive.jpg": encode(RGB, progressive=True),
    "grey.jpg": encode(GREY),
    "CMYK.jpg": encode(RGB.convert("CMYK")),
    **{f"turned{n}.jpg": turned(n) for n in range(1, 9)},
    "turned.png": turned(6, "PNG"),
    "turned.webp": turned(8, "WEBP"),
    "RGB.png": encode(RGB, "PNG"),
    "grey.png": encode(GREY, "PNG"),
    "bits.png": encode(GREY.convert("1"), "PNG"),
    "deep.png": encode(DEEP, "PNG"),
    "alpha.png": encode(RGBA, "PNG"),
    "grey_alpha.png": encode(RGBA.convert("LA"), "PNG"),
    "palette.png": encode(PALETTE, "PNG"),
    "transparent.png": encode(PALETTE, "PNG", transparency=0),
    "animated.png": encode(RGB, "PNG", save_all=True, append_images=TWO),
    "palette.gif": encode(PALETTE, "GIF"),
    "transparent.gif": encode(PALETTE, "GIF", transparency=0),
    "animated.gif": encode(RGB, "GIF", save_all=True, append_images=TWO),
    "RGB.bmp": encode(RGB, "BMP"),
    "palette.bmp": encode(PALETTE, "BMP"),
    "RGB.webp": encode(RGB, "WEBP"),
    "lossless.webp": encode(RGB, "WEBP", lossless=True),
    "alpha.webp": encode(RGBA, "WEBP"),
    "alpha_lossless.webp": encode(RGBA, "WEBP", lossless=True),
    "animated.webp": encode(RGB, "WEBP", save_all=True, append_images=TWO),
}
COLOURS = {"L": "grey", "LA": "grey", "1": "grey", "I;16": "grey", "P": "palette", "CMYK": "CMYK"}


def of_bytes(files):
    """`Item`s of files in memory: name -> bytes, or (split, class, bytes)."""
    for name, content in files.items():
        split, label, content = content if isinstance(content, tuple) else ("", "a", content)
        yield Item(name, split, label, lambda most, c=content: c if most < 0 else c[:most])


def inspect_bytes(files, **options):
    return inspect(list(of_bytes(files)), **options)


def expected(encoded):
    """By Pillow: (format, upright size, orientation, colour, extras)."""
    with Image.open(io.BytesIO(encoded)) as image:
        upright = ImageOps.exif_transpose(image)
        extras = {
            "alpha": image.mode in ("LA", "RGBA") or "transparency" in image.info,
            "16 bits": image.mode == "I;16",
            "animated": getattr(image, "n_frames", 1) > 1,
        }
        return (
            {"WEBP": "WebP"}.get(image.format, image.format),
            upright.size,
            image.getexif().get(0x0112, 1),
            COLOURS.get(image.mode, "RGB"),
            {name for name, holds in extras.items() if holds},
        )


@pytest.mark.parametrize("decode", [False, True])
def test_formats_sizes_orientations_and_modes_are_pillows(decode):
    found = inspect_bytes(FILES, decode=decode)
    for item, facts in zip(found.items, found.facts, strict=True):
        size = (facts.width, facts.height)
        seen = (facts.format, size, facts.orientation, facts.colour, set(facts.extras))
        wanted = expected(FILES[item.name])
        if item.name == "animated.gif":  # Pillow shows the first picture in RGB
            wanted = (*wanted[:3], "palette", wanted[4])
        assert seen == wanted, item.name
        assert not facts.problem


def test_a_file_is_read_as_far_as_needed(tmp_path):
    """Without decoding: of a JPEG whose header is long all of it, of another one the beginning."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = encode(noise, quality=95, exif=exif)
    comment = b"\xff\xfe" + (60_002).to_bytes(2, "big") + bytes(60_000)
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "plain.jpg").write_bytes(jpeg)
    (folder / "long.jpg").write_bytes(jpeg[:2] + 3 * comment + jpeg[2:])
    (folder / "turned.webp").write_bytes(encode(noise, "WEBP", lossless=True, exif=exif))
    most = {}
    items = [
        item._replace(read=lambda n, i=item: most.setdefault(i.name, []).append(n) or i.read(n))
        for item in list_items(read_layout(tmp_path))
    ]
    found = inspect(items, decode=False)
    for facts in found.facts:
        assert (facts.width, facts.height, facts.orientation) == (300, 400, 6)
    assert [most[item.name][-1] for item in items] == [-1, 2**16, -1]
    assert [facts.size for facts in found.facts] == [os.path.getsize(i.path) for i in items]


def test_what_cannot_be_decoded_is_named_with_the_reason():
    jpeg, png = encode(RGB), encode(RGB, "PNG")
    files = {
        "whole.jpg": jpeg,
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": png[: len(png) // 2],
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "no_size.png": png[:12],
        "short.png": png[:25],
        "short.bmp": b"BM",
        "short.webp": b"RIFF\0\0\0\0WEBP",
        "bomb.bmp": b"BM" + bytes(16) + (30_000).to_bytes(4, "little") * 2,
    }
    found = inspect_bytes(files)
    assert [bool(facts.problem) for facts in found.facts] == [False] + [True] * 9
    by_kind = {each.file: each.kind for each in found.problems()}
    assert by_kind == dict.fromkeys(list(files)[1:], "cannot be used")
    reasons = {each.file: each.detail for each in found.problems()}
    assert reasons["cut.jpg"] == "it is damaged or not complete"
    assert reasons["text.jpg"] == "it is none of JPEG, PNG, GIF, BMP, WebP"
    quick = inspect_bytes(files, decode=False)
    # A WebP of no chunks has a header of 1 x 1; those of the others are whole.
    unseen = {"whole.jpg", "cut.jpg", "cut.png", "short.png", "short.webp"}
    assert {
        i.name for i, f in zip(quick.items, quick.facts, strict=True) if not f.problem
    } == unseen


def photograph(seed):
    """Smooth, with much contrast, and no two alike."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), "uint8")
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def groups_of(found):
    names = [item.name for item in found.items]
    return {tuple(sorted(names[i] for i in each.images)): each for each in found.duplicates}


def test_duplicates_of_every_kind():
    one, two, three = (photograph(seed) for seed in range(3))
    files = {
        "1.png": ("train", "cat", encode(one, "PNG")),
        "same_bytes.png": ("test", "cat", encode(one, "PNG")),
        "same_pixels.bmp": ("train", "dog", encode(one, "BMP")),
        "compressed.jpg": ("train", "cat", encode(one, quality=60)),
        "2.jpg": ("train", "cat", encode(two, quality=95)),
        "half.jpg": ("train", "cat", encode(two.resize((80, 60)), quality=90)),
        "3.jpg": ("train", "cat", encode(three)),
        "mirrored.jpg": ("train", "cat", encode(ImageOps.mirror(three))),
        "cut.jpg": ("train", "dog", encode(three)[:-200]),
        **{f"other{i}.jpg": ("train", "cat", encode(photograph(i))) for i in range(3, 40)},
    }
    found = groups_of(inspect_bytes(files))
    first = ("1.png", "compressed.jpg", "same_bytes.png", "same_pixels.bmp")
    assert set(found) == {first, ("2.jpg", "half.jpg")}
    assert next(iter(found)) == first  # across splits and classes
    shown = [(g.identical, g.across, g.labels) for g in found.values()]
    assert shown == [(False, True, True), (False, False, False)]
    quick = groups_of(inspect_bytes(files, decode=False))
    assert set(quick) == {("1.png", "same_bytes.png")}
    assert quick["1.png", "same_bytes.png"].identical


def test_images_without_contrast_are_equal_only_where_every_pixel_is():
    """A white page and an empty one are no duplicates; two equal ones are."""
    pages = [np.full((64, 64, 3), 255, "uint8") for _ in range(3)]
    pages[0][30:34, 30:34] = 0
    files = {f"{i}.png": encode(page, "PNG") for i, page in enumerate(pages)}
    files["2.bmp"] = encode(pages[2], "BMP")
    assert set(groups_of(inspect_bytes(files))) == {("1.png", "2.bmp", "2.png")}


def test_more_images_than_are_compared_at_once(monkeypatch):
    monkeypatch.setattr("keras_senet.images.duplicates.BLOCK", 7)
    files = {f"{i:02}.png": encode(photograph(i % 30), "PNG") for i in range(60)}
    files |= {f"{i:02}.jpg": encode(photograph(i), quality=80) for i in range(30)}
    found = groups_of(inspect_bytes(files))
    assert sorted(found) == [(f"{i:02}.jpg", f"{i:02}.png", f"{i + 30:02}.png") for i in range(30)]


def test_a_duplicate_names_the_image_that_matters_most():
    content = encode(photograph(0), "PNG")
    files = {
        "a.png": ("train", "cat", content),
        "b.png": ("train", "cat", content),
        "c.png": ("train", "dog", content),
        "d.png": ("val", "cat", content),
    }
    found = {each.file: each for each in inspect_bytes(files).problems()}
    assert (found["a.png"].kind, found["a.png"].detail) == ("duplicate, another split", "d.png")
    assert found["c.png"].kind == "duplicate, another class, another split"
    assert found["d.png"].kind == "duplicate, another class, another split"
    assert found["d.png"].detail == "c.png"
    assert find_duplicates([], [], near=True) == ()


def test_thousands_of_equal_images_are_not_compared_in_pairs():
    """The few that are named are those that would be named of all."""
    random = np.random.default_rng(0)
    for count in [*range(2, 9), 1000] * 20:
        splits, labels = random.choice(["", "val"], count), random.choice(list("ab"), count)
        items = [Item(str(i), splits[i], labels[i], bytes) for i in range(count)]
        group = Duplicates(tuple(range(count)), True, True, True)
        found = Inspection(items, [], [group], {}, True)
        named = found._choose_named(group.images)
        assert len(named) <= 6
        for number in range(min(count, 10)):
            few = found._describe_twin(number, group, named)
            assert few == found._describe_twin(number, group, group.images)


@pytest.fixture
def photos(tmp_path):
    """Four splits' worth of faults in a folder as people have them."""
    root = tmp_path / "photos"
    for split, label, count in (("train", "cat", 6), ("train", "dog", 2), ("test", "cat", 2)):
        (root / split / label).mkdir(parents=True)
        for i in range(count):
            seed = 100 * (split == "test") + 10 * (label == "dog") + i
            (root / split / label / f"{i}.jpg").write_bytes(encode(photograph(seed)))
    (root / "train/cat/turned.jpg").write_bytes(turned(3))
    (root / "train/cat/grey.png").write_bytes(FILES["grey.png"])
    (root / "train/dog/copy.jpg").write_bytes((root / "test/cat/0.jpg").read_bytes())
    (root / "train/dog/cut.jpg").write_bytes(encode(photograph(50))[:-300])
    (root / "train/dog/scan.tif").write_bytes(b"II*\0")
    (root / "train/dog/notes.txt").write_text("a dog")
    (root / "train/dog/.hidden.jpg").write_bytes(b"")
    os.mkfifo(root / "train/dog/pipe.jpg")
    (root / "train/dog/loop.jpg").symlink_to("loop.jpg")
    (root / "train/dog/up").symlink_to("..")
    (root / "loose.jpg").write_bytes(FILES["RGB.jpg"])
    with open(os.fsencode(root) + b"/train/cat/caf\xe9.jpg", "wb") as file:
        file.write(encode(photograph(60)))
    return root


def run_data(capsys, *arguments):
    assert cli.main(["data", *map(str, arguments)]) == 0
    return capsys.readouterr()


def test_the_command_on_a_folder(photos, tmp_path, capsys):
    table = tmp_path / "problems.csv"
    summary = json.loads(run_data(capsys, photos, "--json", "--csv", table).out)
    assert summary["images"] == 15
    assert summary["splits"] == {"train": 13, "test": 2}
    assert summary["classes"] == {"cat": {"train": 9, "test": 2}, "dog": {"train": 4}}
    assert summary["imbalance"] == 11 / 4
    assert summary["formats"] == {"JPEG": 13, "PNG": 1}
    assert summary["sizes"]["largest"]["width"] == 160
    assert summary["sizes"]["smallest"]["file"] == str(photos / "train/cat/grey.png")
    assert summary["sizes"]["aspect_ratio"] == {"min": 4 / 3, "median": 4 / 3, "max": 1.4}
    (unusable,) = summary["unusable"]
    assert unusable["file"] == str(photos / "train/dog/cut.jpg")
    left_out = {os.path.relpath(e["file"], photos): e["reason"] for e in summary["left_out"]}
    assert left_out == {
        "loose.jpg": "outside the folders of the splits",
        "train/dog/notes.txt": "not an image",
        "train/dog/scan.tif": "is not decoded; convert it to one of JPEG, PNG, GIF, BMP, WebP",
        "train/dog/pipe.jpg": "not a regular file",
        "train/dog/loop.jpg": "a broken link",
    }
    assert (summary["duplicates"]["groups"], summary["duplicates"]["across_splits"]) == (1, 1)
    assert "scan.tif' is not decoded" in summary["refused"]
    with table.open(newline="") as file:
        rows = {os.path.relpath(row["file"], photos): row for row in csv.DictReader(file)}
    assert {name: row["problem"] for name, row in rows.items()} == {
        "train/cat/grey.png": "grey",
        "train/cat/turned.jpg": "rotated by EXIF",
        "train/dog/copy.jpg": "duplicate, another class, another split",
        "test/cat/0.jpg": "duplicate, another class, another split",
        "train/dog/cut.jpg": "cannot be used",
        **dict.fromkeys(left_out, "left out"),
    }
    assert rows["train/dog/copy.jpg"]["detail"] == str(photos / "test/cat/0.jpg")


def test_headers_only_counts_the_same_images(photos, capsys):
    summary = json.loads(run_data(capsys, photos, "--json", "--headers-only").out)
    assert summary["images"] == 15
    assert summary["unusable"] == []  # its damage is after its header
    assert summary["duplicates"]["groups"] == 1
    assert not summary["duplicates"]["near"]


def test_what_is_printed_names_the_faults(photos, capsys):
    printed = " ".join(run_data(capsys, photos).out.split())
    for text in ("cat", "dog", "15", "2.75 times", "such as", "copy.jpg", "loose.jpg", "refuses"):
        assert text in printed
    assert "one image: " in printed


def test_without_splits(tmp_path, capsys):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(5):
            seed = 10 * (label == "dog") + i
            (tmp_path / "photos" / label / f"{i}.jpg").write_bytes(encode(photograph(seed)))
    summary = json.loads(run_data(capsys, tmp_path / "photos", "--json").out)
    assert summary["classes"] == {"cat": {"": 5}, "dog": {"": 5}}
    assert "keeps 20% of each class for validation" in summary["training"]
    assert summary["refused"] == ""
    (tmp_path / "photos" / "dog" / "empty.png").write_bytes(b"")
    assert run_data(capsys, tmp_path / "photos").out.endswith(" --workdir run --skip-corrupt\n")


def test_a_prepared_dataset(tmp_path, capsys):
    contents = [encode(photograph(i % 5)) for i in range(6)]
    records = [example(content, i % 3) for i, content in enumerate(contents)]
    prepare(tmp_path / "tfds", {"train": [records[:4]], "test": [records[4:]]})
    flags = ("pictures", "--data-dir", tmp_path / "tfds", "--json")
    summary = json.loads(run_data(capsys, *flags).out)
    assert summary["splits"] == {"train": 4, "test": 2}
    (group,) = summary["duplicates"]["listed"]
    assert group["across_splits"]
    assert group["across_classes"]
    assert [each["class"] for each in group["images"]] == ["class 0", "class 2"]


@pytest.mark.parametrize("content", ["empty", "flat", "texts", "missing", "file"])
def test_what_is_no_dataset_is_one_line(content, tmp_path, capsys):
    place = tmp_path / "photos"
    if content != "missing":
        place.mkdir()
    if content == "flat":
        (place / "1.jpg").write_bytes(FILES["RGB.jpg"])
    if content == "texts":
        (place / "cat").mkdir()
        (place / "cat" / "notes.txt").write_text("text")
    if content == "file":
        place = tmp_path / "1.jpg"
        place.write_bytes(FILES["RGB.jpg"])
    for flags in ([], ["--headers-only"]):
        assert cli.main(["data", str(place), *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(place) in line


def test_wrong_flags(photos, capsys):
    for flags, message in (
        (["--recipe", "digits"], "--recipe goes with --output"),
        (["--recipe", "digits", "--headers-only", "--output", "x"], "not with --headers-only"),
        (["--recipe", "digit", "--output", "x"], "--recipe"),
        (["--output", str(photos / "loose.jpg")], "--output cannot be written"),
        (["--csv", str(photos / "loose.jpg" / "x.csv")], "--csv cannot be written"),
    ):
        assert cli.main(["data", str(photos), *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_pictures(photos, tmp_path, capsys):
    """Takes 5 s: figures of many small pictures."""
    (photos / "train/dog/scan.tif").unlink()
    flags = ("--output", tmp_path / "pictures", "--recipe", "cifar10-short")
    run_data(capsys, photos, *flags)
    names = {"sizes.png", "samples.png", "augmented.png"}
    assert {each.name for each in (tmp_path / "pictures").iterdir()} == names
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as image:
            assert min(image.size) > 200
