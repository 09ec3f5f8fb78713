"""Files of every kind have Pillow's RGB values, or fail; crops equal parts of the whole."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from data.files import encode, picture
from PIL import Image

from keras_senet import data
from keras_senet.data import boxes, decoding
from keras_senet.images.decoding import decode

PICTURE = picture(33, 47)
RGB = Image.fromarray(PICTURE)
BOX = (3, 5, 20, 31)  # top, left, height, width


def png16(values, colour):
    """A PNG of 16 bits per value; Pillow writes none in RGB."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def grey(image):
    return np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=-1)


def opened(encoded):
    import io

    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


JPEGS = {
    "4:4:4": encode(RGB, subsampling=0),
    "4:2:2": encode(RGB, subsampling=1),
    "4:2:0": encode(RGB, subsampling=2),
    "progressive": encode(RGB, progressive=True),
    "grey": encode(RGB.convert("L")),
    "CMYK": encode(RGB.convert("CMYK"), quality=95),
    "bytes after its end": encode(RGB) + b"\0\0\0",
}
EXACT = {
    "PNG": (encode(RGB, "PNG"), PICTURE),
    "grey PNG": (encode(RGB.convert("L"), "PNG"), grey(RGB)),
    "PNG with alpha": (encode(RGB.convert("RGBA"), "PNG"), PICTURE),
    "grey PNG with alpha": (encode(RGB.convert("LA"), "PNG"), grey(RGB)),
    "PNG with a palette": (
        encode(RGB.convert("P"), "PNG"),
        np.asarray(RGB.convert("P").convert("RGB")),
    ),
    "PNG of 1 bit": (encode(RGB.convert("1"), "PNG"), np.asarray(RGB.convert("1").convert("RGB"))),
    "PNG of 16 bits": (png16(PICTURE.astype("uint16") * 257, 2), PICTURE),
    "grey PNG of 16 bits": (
        png16(np.asarray(RGB.convert("L")).astype("uint16") * 257, 0),
        grey(RGB),
    ),
    "BMP": (encode(RGB, "BMP"), PICTURE),
    "WebP": (encode(RGB, "WEBP", lossless=True), PICTURE),
    "GIF": (encode(RGB.convert("P"), "GIF"), np.asarray(RGB.convert("P").convert("RGB"))),
}
DECODE_PART = tf.function(
    lambda raw, window, box, part: decoding.decode_box(raw, 3, (window, box), lambda size: part)
)


def part(image, box=BOX):
    top, left, height, width = box
    return image[top : top + height, left : left + width]


def decoded_part(encoded, box):
    box = np.array([box], "int32")
    ((window, within),) = decoding.plan_windows(box, decoding.read_headers([encoded])[0])
    return DECODE_PART(tf.constant(encoded), window, within, box[0])


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_are_pillow_s(kind):
    encoded = JPEGS[kind]
    expected = opened(encoded)
    np.testing.assert_array_equal(decode(tf.constant(encoded), 3), expected)
    np.testing.assert_array_equal(decoded_part(encoded, BOX), part(expected))


@pytest.mark.parametrize("kind", EXACT)
def test_other_files_are_exact(kind):
    encoded, expected = EXACT[kind]
    np.testing.assert_array_equal(decode(tf.constant(encoded), 3), expected)
    np.testing.assert_array_equal(decoded_part(encoded, BOX), part(expected))


def test_crops_are_parts_of_the_whole_everywhere():
    random = np.random.default_rng(0)
    for encoded in list(JPEGS.values())[:4]:
        whole = opened(encoded)
        for _ in range(50):
            top, left = random.integers(0, 33), random.integers(0, 47)
            box = (top, left, random.integers(1, 34 - top), random.integers(1, 48 - left))
            np.testing.assert_array_equal(decoded_part(encoded, box), part(whole, box))


def with_segment(jpeg, segment):
    """The JPEG with bytes after its first marker."""
    return jpeg[:2] + segment + jpeg[2:]


SIZES = {
    **{kind: (jpeg, (33, 47)) for kind, jpeg in JPEGS.items() if kind != "bytes after its end"},
    "bytes after its end": (JPEGS["bytes after its end"], (0, 0)),
    "another JPEG in a segment": (
        with_segment(
            JPEGS["grey"],
            b"\xff\xe1" + (2 + 1000).to_bytes(2, "big") + encode(picture(5, 6)).ljust(1000),
        ),
        (33, 47),
    ),
    "fill bytes": (with_segment(JPEGS["4:2:0"], b"\xff\xff"), (33, 47)),
    "PNG": (EXACT["PNG"][0], (0, 0)),
}
WITHOUT_SIZE = {
    "cut in its header": JPEGS["4:2:0"][:100] + b"\xff\xd9",
    "a length beyond the end": with_segment(JPEGS["4:2:0"], b"\xff\xe1\xff\xff"),
    "only markers": b"\xff\xd8\xff\xd9",
    "empty": b"",
}


def test_sizes_are_read_from_jpegs_and_unknown_elsewhere():
    found, _ = decoding.read_headers([encoded for encoded, _ in SIZES.values()])
    assert dict(zip(SIZES, map(tuple, found.tolist()), strict=True)) == {
        kind: size for kind, (_, size) in SIZES.items()
    }
    assert decoding.read_headers([])[0].shape == (0, 2)


@pytest.mark.parametrize("kind", WITHOUT_SIZE)
def test_without_a_size_in_the_header_nothing_is_decoded(kind):
    with pytest.raises(ValueError, match="header is damaged|none of JPEG"):
        decoding.read_headers([WITHOUT_SIZE[kind]])


def test_fill_bytes_before_a_segment_are_skipped():
    encoded = SIZES["fill bytes"][0]
    np.testing.assert_array_equal(decoded_part(encoded, BOX), part(opened(JPEGS["4:2:0"])))


BAD = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"a text file",
    "a JPEG's beginning": JPEGS["4:2:0"][:3],
    "TIFF": encode(RGB, "TIFF"),
    **{f"JPEG without its last {n} bytes": JPEGS["4:2:0"][:-n] for n in (1, 2, 3, 50, 500)},
    **{
        f"progressive JPEG without its last {n} bytes": JPEGS["progressive"][:-n]
        for n in (2, 50, 300)
    },
    "truncated PNG": EXACT["PNG"][0][:-200],
    "truncated BMP": EXACT["BMP"][0][:-10],
    "truncated GIF": EXACT["GIF"][0][:-100],
    "truncated WebP": EXACT["WebP"][0][:-20],
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_decoded_fails_whatever_the_crop(kind, tmp_path):
    for function in (
        lambda raw: decode(tf.constant(raw), 3),
        lambda raw: decoded_part(raw, (0, 0, 1, 1)),
    ):
        with pytest.raises((tf.errors.OpError, ValueError)):  # the header is read in Python
            function(BAD[kind])
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "1.jpg").write_bytes(BAD[kind])
    corrupt = decoding.find_corrupt(data.load(tmp_path, "train"), 0)
    assert corrupt.name.endswith("1.jpg")
    assert corrupt.reason
    assert "\n" not in corrupt.reason


def test_one_pixel_becomes_an_image(tmp_path):
    """Of each format, in one batch: each pipeline is traced."""
    (tmp_path / "train" / "a").mkdir(parents=True)
    colour = (204, 0, 102)  # which Pillow's palette has
    pixel = Image.fromarray(np.full((1, 1, 3), colour, "uint8"))
    for kind in ("JPEG", "PNG", "BMP", "GIF"):
        encoded = encode(pixel.convert("P") if kind == "GIF" else pixel, kind)
        (tmp_path / "train" / "a" / f"{kind}.png").write_bytes(encoded)
    dataset = data.load(tmp_path, "train")
    for augmentation in (data.Augmentation(min_area=0.08), data.Augmentation()):
        made = data.TrainingData(
            dataset, batch_size=4, image_size=16, seed=0, augmentation=augmentation
        )
        ((images, _),) = made.batches(0, 1)
        for image in images.numpy():
            np.testing.assert_array_equal(image, np.broadcast_to(image[0, 0], (16, 16, 3)))
            np.testing.assert_allclose(image[0, 0], colour, atol=3)  # a JPEG's rounding


def test_training_images_are_pillow_s_crop_and_resize(tmp_path):
    """Of JPEGs, whose boxes are drawn before they are decoded, and of others, drawn after that."""
    image = picture(300, 400)
    jpeg = encode(image, quality=90)
    files = {
        "0.jpg": jpeg,
        "1.png": encode(image, "PNG"),
        "2.jpg": with_segment(jpeg, b"\xff\xff"),
        "3.jpg": jpeg,
    }
    (tmp_path / "train" / "a").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "train" / "a" / name).write_bytes(content)
    dataset = data.load(tmp_path, "train")
    for augmentation, choose in (
        (data.Augmentation(min_area=0.08), boxes.make_random_boxes(0.08, 3)),
        (data.Augmentation(), boxes.choose_center_boxes),
    ):
        made = data.TrainingData(
            dataset, batch_size=4, image_size=96, seed=3, augmentation=augmentation
        )
        for step, (found, _) in enumerate(made.batches(0, 5)):
            chosen = choose(np.tile([300, 400], (4, 1)), step * 4 + np.arange(4))
            for index, one, (top, left, height, width) in zip(
                made.indices(step), found, chosen, strict=True
            ):
                whole = Image.fromarray(opened(list(files.values())[index]))
                box = whole.crop((left, top, left + width, top + height)).resize(
                    (96, 96), Image.Resampling.BILINEAR
                )
                assert np.abs(one.numpy().astype(int) - np.asarray(box)).max() <= 1
