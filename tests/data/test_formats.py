"""Files of every kind in three channels and in one: Pillow's RGB and Pillow's luminance."""

import io
import struct
import time

import numpy as np
import pytest
import tensorflow as tf
from data.files import encode, picture
from PIL import Image

from keras_senet import data
from keras_senet.images.decoding import decode, describe_error
from keras_senet.preprocessing import IMAGENET

RANDOM = np.random.default_rng(0)
RGB = Image.fromarray(picture(31, 43))
RGBA = Image.fromarray(RANDOM.integers(0, 256, (31, 43, 4), "uint8"))
PALETTE = RGB.convert("P")


def bmp(bits, height, compression=0, masks=b"", palette=b""):
    """A BMP of 43 columns of random bytes, which Pillow does not write; a negative height is from
    the top.
    """
    stride = (bits * 43 + 31) // 32 * 4
    body, start = (
        RANDOM.integers(0, 256, 31 * stride, "uint8").tobytes(),
        54 + len(masks) + len(palette),
    )
    fields = (40, 43, height, 1, bits, compression, len(body), 0, 0, 0, 0)
    return (
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, start)
        + struct.pack("<IiiHHIIiiII", *fields)
        + masks
        + palette
        + body
    )


def bmp_of_os2():
    palette, body = (RANDOM.integers(0, 256, n, "uint8").tobytes() for n in (768, 31 * 44))
    return b"BM" + struct.pack("<IHHIIHHHH", 0, 0, 0, 26 + 768, 12, 43, 31, 1, 8) + palette + body


def gif_on_a_screen(**options):
    """A GIF whose picture does not fill the screen and is not in its corner."""
    raw = bytearray(encode(PALETTE, "GIF", **options))
    raw[6:10] = struct.pack("<HH", 50, 45)
    at = raw.rindex(b",\0\0\0\0" + struct.pack("<HH", 43, 31))
    raw[at + 1 : at + 5] = struct.pack("<HH", 3, 4)
    return bytes(raw)


def webp_animation(width, height):
    """A WebP whose first picture is larger than what its header says."""
    picture = encode(Image.new("RGB", (width, height)), "WEBP", lossless=True, method=0)[12:]
    sizes = b"".join((n - 1).to_bytes(3, "little") for n in (width, height))
    frame = bytes(6) + sizes + bytes(4) + picture
    parts = {b"VP8X": b"\2" + bytes(9), b"ANIM": bytes(6), b"ANMF": frame}
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(part)) + part for name, part in parts.items()
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


MORE = {"save_all": True, "append_images": [RGB.rotate(180), RGB.rotate(90)]}
COLOURS = RANDOM.integers(0, 256, 1024, "uint8").tobytes()
FILES = {
    "BMP of 1 bit": encode(RGB.convert("1"), "BMP"),
    "BMP of 8 bits, grey": encode(RGB.convert("L"), "BMP"),
    "BMP of 8 bits": encode(PALETTE, "BMP"),
    "BMP of 32 bits": encode(RGBA, "BMP"),
    "BMP of 4 bits": bmp(4, 31, palette=COLOURS[:64]),
    "BMP of 4 bits from the top": bmp(4, -31, palette=COLOURS[:64]),
    "BMP of 8 bits from the top": bmp(8, -31, palette=COLOURS),
    "BMP of 15 bits": bmp(16, 31),
    "BMP of 16 bits": bmp(16, -31, 3, struct.pack("<III", 0xF800, 0x7E0, 0x1F)),
    "BMP of 32 bits with masks": bmp(32, 31, 3, struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)),
    "BMP of OS/2": bmp_of_os2(),
    "WebP": encode(RGB, "WEBP"),
    "WebP without loss": encode(RGB, "WEBP", lossless=True),
    "WebP with alpha": encode(RGBA, "WEBP"),
    "WebP with alpha, without loss": encode(RGBA, "WEBP", lossless=True, exact=True),
    "WebP animation": encode(RGB, "WEBP", **MORE),
    "WebP animation with alpha": encode(RGBA, "WEBP", lossless=True, **MORE),
    "GIF": encode(PALETTE, "GIF"),
    "GIF animation": encode(PALETTE, "GIF", **MORE),
    "GIF with a transparent colour": encode(PALETTE, "GIF", transparency=5),
    "GIF with pixels of a transparent colour": encode(RGB.quantize(16), "GIF", transparency=3),
    "GIF of several parts": encode(
        Image.fromarray(RANDOM.integers(0, 256, (150, 200), "uint8")), "GIF"
    ),
    "GIF, interlaced": encode(PALETTE, "GIF", interlace=1),
    "GIF on a screen": gif_on_a_screen(),
    "GIF on a transparent screen": gif_on_a_screen(transparency=5),
    "PNG with a palette and alpha": encode(PALETTE, "PNG", transparency=5),
    "PNG of 4 bits": encode(RGB.quantize(16), "PNG", bits=4),
    "grey PNG with a transparent value": encode(RGB.convert("L"), "PNG", transparency=5),
    "JPEG": encode(RGB),
    "progressive JPEG": encode(RGB, progressive=True),
    "grey JPEG": encode(RGB.convert("L")),
}


@pytest.mark.parametrize("kind", FILES)
def test_values_are_pillow_s_in_three_channels_and_in_one(kind):
    encoded = tf.constant(FILES[kind])
    expected = Image.open(io.BytesIO(FILES[kind])).convert("RGB")
    np.testing.assert_array_equal(decode(encoded, 3), np.asarray(expected))
    np.testing.assert_array_equal(decode(encoded, 1)[..., 0], np.asarray(expected.convert("L")))


@pytest.mark.parametrize("length", [8000, 9000, 20000, 40000])
def test_a_truncated_gif_is_not_complete(length):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode(tf.constant(FILES["GIF of several parts"][:length]), 3)
    assert "GIF is damaged or not complete" in describe_error(error.value)


def test_a_long_animation_takes_no_longer_than_its_first_picture():
    """Only a part of the file is read: the rest need not even be complete."""
    long = FILES["GIF animation"] + bytes([0x2C, 1]) * 10**6
    np.testing.assert_array_equal(
        decode(tf.constant(long), 3), decode(tf.constant(FILES["GIF animation"]), 3)
    )


def test_files_that_are_made_to_take_long_do_not():
    """Extensions or chunks without content before the first picture: each takes a step."""
    whole = FILES["GIF"]
    begin = 13 + 3 * 2 ** (whole[10] % 8 + 1)
    gif = whole[:begin] + b"\x21\xfe\0" * 10**5 + whole[begin:]
    webp = FILES["WebP animation"]
    at = webp.index(b"ANMF")
    webp = webp[:at] + (b"NONE" + bytes(4)) * 10**5 + webp[at:]
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]
    for slow, reason in ((gif, "GIF is damaged"), (webp, "WebP is not complete")):
        before = time.process_time()
        with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
            decode(tf.constant(slow), 3)
        assert time.process_time() - before < 3
    some = whole[:begin] + b"\x21\xfe\1a\0" * 20 + whole[begin:]
    np.testing.assert_array_equal(decode(tf.constant(some), 3), decode(tf.constant(whole), 3))


def test_a_grey_network_reads_a_gif_of_any_size(tmp_path):
    (tmp_path / "a.gif").write_bytes(FILES["GIF"])
    grey = IMAGENET.for_channels(1)
    assert grey.read(tmp_path / "a.gif").shape == (224, 224, 1)


ANIMATION = FILES["WebP animation"]
PLACE = ANIMATION.index(b"ANMF") + 8  # of its picture
REFUSED = {
    "BMP with run lengths": (bmp(8, 31, 1, palette=COLOURS), "BMP is compressed"),
    "BMP with unusual masks": (bmp(16, 31, 3, struct.pack("<III", 1, 2, 4)), "unusual masks"),
    "cut BMP": (FILES["BMP of 8 bits"][:-10], "BMP is not complete"),
    "cut GIF": (FILES["GIF"][:-100], "GIF is damaged or not complete"),
    "cut PNG": (FILES["PNG of 4 bits"][:-60], "damaged or not complete"),
    "cut WebP": (FILES["WebP"][:-20], "damaged or not complete"),
    "cut WebP animation": (FILES["WebP animation"][:150], "not complete"),
    "WebP animation that is larger than it says": (
        webp_animation(16000, 5600),
        "WebP is larger than its header says",
    ),
    "WebP animation whose picture is far away": (
        ANIMATION[:PLACE] + b"\xff" * 6 + ANIMATION[PLACE + 6 :],
        "WebP is larger than its header says",
    ),
    "TIFF": (encode(RGB, "TIFF"), "none of JPEG, PNG, GIF, BMP, WebP"),
    "text": (b"a text file", "none of JPEG, PNG, GIF, BMP, WebP"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_have_no_internals_of_tensorflow(kind, tmp_path):
    encoded, reason = REFUSED[kind]
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode(tf.constant(encoded), 3)
    assert reason in describe_error(error.value)
    (tmp_path / "a.jpg").write_bytes(encoded)
    with pytest.raises(ValueError, match=reason) as error:
        IMAGENET.read(tmp_path / "a.jpg")
    assert not any(word in str(error.value) for word in ("{{", "[Op", "assertion", "node"))


def test_palettes_in_a_training_batch(tmp_path):
    place = tmp_path / "train" / "a"
    place.mkdir(parents=True)
    square = picture(32, 32)
    Image.fromarray(square).convert("L").save(place / "1.bmp")
    made = data.TrainingData(data.load(tmp_path, "train"), batch_size=1, image_size=32, seed=0)
    ((images, _),) = made.batches(0, 1)
    np.testing.assert_array_equal(
        images[0], np.asarray(Image.fromarray(square).convert("L").convert("RGB"))
    )
