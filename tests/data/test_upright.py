"""Images with an EXIF orientation are upright, as Pillow's `exif_transpose` shows them."""

import io
import random
import zlib

import numpy as np
import pytest
import tensorflow as tf
from data.files import encode, picture
from PIL import Image, ImageOps

from keras_senet import Preprocessing, data
from keras_senet.data import boxes
from keras_senet.images import headers
from keras_senet.images.decoding import _header, decode

PICTURE = Image.fromarray(picture(33, 47))


def turned(orientation, kind="JPEG", order="<", **options):
    """A file whose EXIF, in one of the two byte orders, has its orientation."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112] = "a maker, whose name is not in the entry", orientation
    return encode(PICTURE, kind, exif=exif, **options)


def shown(encoded):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


def with_segments(*segments):
    jpeg = encode(PICTURE)
    parts = [b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment for segment in segments]
    return b"".join([jpeg[:2], *parts, jpeg[2:]])


def with_exif(tiff):
    return with_segments(b"Exif\0\0" + tiff)


def png_with_exif(content, at=33):
    png = encode(PICTURE, "PNG")
    chunk = b"eXIf" + content
    chunk = len(content).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return png[:at] + chunk + png[at:]


ENTRY = b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"  # of a big-endian directory: orientation 6
EXIF = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\1" + ENTRY + bytes(4)
FILES = {
    "a directory far away": with_exif(
        b"MM\0\x2a\0\0\1\0" + bytes(248) + b"\0\1" + ENTRY + bytes(4)
    ),
    "a directory beyond the end": with_exif(b"MM\0\x2a\0\0\x10\0" + b"\0\1" + ENTRY),
    "more entries than there are": with_exif(b"MM\0\x2a\0\0\0\x08\xff\xff" + ENTRY),
    "a cut entry": with_exif(b"MM\0\x2a\0\0\0\x08\0\1" + ENTRY[:-2]),
    "no TIFF": with_exif(b"XX\0\x2a\0\0\0\x08\0\1" + ENTRY),
    "an orientation that is none": with_exif(
        b"MM\0\x2a\0\0\0\x08\0\1" + ENTRY.replace(b"\6", b"\11")
    ),
    "two values": with_exif(b"MM\0\x2a\0\0\0\x08\0\1" + ENTRY.replace(b"\1\0\6", b"\2\0\6")),
    "a long number": with_exif(
        b"MM\0\x2a\0\0\0\x08\0\1" + b"\x01\x12\0\x04\0\0\0\x01\0\0\0\6" + bytes(4)
    ),
    "bytes": with_exif(b"MM\0\x2a\0\0\0\x08\0\1" + b"\x01\x12\0\x01\0\0\0\x01\6\0\0\0" + bytes(4)),
    "a number with a sign": with_exif(
        b"MM\0\x2a\0\0\0\x08\0\1" + ENTRY.replace(b"\0\3", b"\0\10") + bytes(4)
    ),
    "nothing": with_exif(b""),
    "a segment of another kind first": with_segments(b"http://ns.adobe.com/xap/1.0/\0<xmp/>", EXIF),
    "an empty one first": with_segments(b"Exif\0\0", EXIF),
    "a second one that says another": with_segments(EXIF, EXIF.replace(b"\6", b"\3")),
    "a segment without a length": with_segments(EXIF).replace(
        b"\xff\xdb", b"\xff\xe5\0\0\xff\xdb", 1
    ),
    "bytes that fill": with_segments(EXIF).replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1),
    "a thumbnail": with_segments(EXIF + encode(picture(5, 8))),
    "PNG with the beginning of a JPEG's": png_with_exif(EXIF),
    "PNG after the data": png_with_exif(EXIF[6:], -12),
    "in another segment": encode(PICTURE, comment=b"Exif\0\0" + b"MM\0\x2a\0\0\0\x08\0\1" + ENTRY),
}
FILES |= {
    f"{kind} {n} {order}": turned(n, kind, order)
    for kind in ("JPEG", "PNG", "WEBP")
    for n in (1, 6)
    for order in "<>"
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Metadata Warning")
@pytest.mark.parametrize("kind", FILES)
def test_what_the_header_says_is_what_pillow_reads(kind):
    opened = Image.open(io.BytesIO(FILES[kind]))
    opened.load()  # also what comes after the data of a PNG
    expected = opened.getexif().get(0x0112, 1)
    expected = expected if expected in range(1, 9) else 1
    header = headers.read_header(FILES[kind])
    assert (header.width, header.height, header.orientation) == (*opened.size, expected)


def test_a_file_that_is_made_to_take_long_does_not():
    """A million fill bytes: in a graph each takes as long as a segment."""
    jpeg = with_segments(b"\xff" * 10)
    slow = jpeg[:2] + b"\xff" * 10**6 + jpeg[2:]
    assert headers.find_problem(headers.read_header(slow)) == "its JPEG header is damaged"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_decoded_upright_whole_and_in_parts(orientation, tmp_path):
    place = tmp_path / "train" / "a"
    place.mkdir(parents=True)
    for name, kind in (("1.jpg", "JPEG"), ("2.png", "PNG")):
        (place / name).write_bytes(turned(orientation, kind))
    dataset = data.load(tmp_path, "train")
    raw, _ = dataset.fetch(np.arange(2))
    for encoded in raw:
        np.testing.assert_array_equal(dataset.decode(tf.constant(encoded)), shown(encoded))
    # The crops of training are parts of the upright image: the same as of one that is stored
    # upright.
    choose = boxes.make_random_boxes(0.1, 3)
    sizes, orientations = dataset.headers(raw)
    assert orientations.tolist() == [orientation] * 2
    height, width = shown(raw[0]).shape[:2]
    assert sizes.tolist() == [[height, width], [0, 0]]
    for place in range(6):
        box = choose(np.array([[height, width]]), np.array([place]))
        ((window, within),) = data.decoding.plan_windows(box, sizes[:1])
        part = dataset.decode_box(
            tf.constant(raw[0]), (window, within), None, sizes[0], orientation
        )
        top, left, rows, columns = box[0]
        np.testing.assert_array_equal(part, shown(raw[0])[top : top + rows, left : left + columns])


def test_orientation_can_be_ignored(tmp_path):
    place = tmp_path / "train" / "a"
    place.mkdir(parents=True)
    (place / "1.png").write_bytes(turned(6, "PNG"))
    stored = np.asarray(Image.open(place / "1.png"))
    dataset = data.load(tmp_path, "train", upright=False)
    raw, _ = dataset.fetch(np.array([0]))
    np.testing.assert_array_equal(dataset.decode(tf.constant(raw[0])), stored)
    assert dataset.headers(raw)[1].tolist() == [1]
    as_stored = Preprocessing(
        (0.0,) * 3, (1.0,) * 3, size=(33, 47), crop_fraction=1.0, upright=False
    )
    np.testing.assert_array_equal(as_stored.read(place / "1.png"), stored)
    upright = Preprocessing((0.0,) * 3, (1.0,) * 3, size=(47, 33), crop_fraction=1.0)
    np.testing.assert_array_equal(
        upright.read(place / "1.png"), shown((place / "1.png").read_bytes())
    )


# Over 5 s on a slow machine: a graph with all formats is built.
def test_a_graph_reads_the_same_headers_and_orients_alike():
    """As `serve_jpeg` does; also of damaged headers."""
    parse = tf.function(_header, input_signature=[tf.TensorSpec((), tf.string)])
    randomly = random.Random(0)
    files = [
        *FILES.values(),
        encode(PICTURE, "BMP"),
        encode(PICTURE.convert("P"), "GIF"),
        encode(PICTURE, "PNG"),
    ]
    for encoded in files:
        damaged = bytearray(encoded)
        for _ in range(3):
            damaged[randomly.randrange(100)] = randomly.randrange(256)
        assert parse(tf.constant(encoded)).numpy().tolist() == [*headers.read_header(encoded)[:4]]
        expected = headers.read_header(bytes(damaged))
        if expected.format != headers.JPEG:  # for JPEGs the decoder's own error is as good
            assert parse(tf.constant(bytes(damaged))).numpy().tolist() == [*expected[:4]]
    traced = tf.function(lambda raw: decode(raw, 3), input_signature=[tf.TensorSpec((), tf.string)])
    for encoded in (turned(6), turned(7, "PNG"), encode(PICTURE)):
        np.testing.assert_array_equal(traced(encoded), shown(encoded))
