"""What a header promises is bounded before anything is decoded; thin images are cropped before they
are enlarged.
"""

import resource
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from data.files import encode, picture
from PIL import Image

from keras_senet import data, evaluation
from keras_senet.images import headers, pillow
from keras_senet.images.decoding import decode, read_orientation
from keras_senet.preprocessing import IMAGENET, crop_center, locate_center, resize


def png_header(height, width):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def with_size(encoded, at, form, *size):
    return encoded[:at] + struct.pack(form, *size) + encoded[at + struct.calcsize(form) :]


def frame(jpeg):
    return next(jpeg.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in jpeg) + 5


SMALL = Image.fromarray(picture(20, 30))
JPEG, PROGRESSIVE = encode(SMALL), encode(SMALL, progressive=True)
HUGE = {
    "PNG": png_header(20_000, 20_000),
    "JPEG": with_size(JPEG, frame(JPEG), ">HH", 30_000, 30_000),
    "progressive JPEG": with_size(PROGRESSIVE, frame(PROGRESSIVE), ">HH", 30_000, 30_000),
    "GIF": with_size(encode(SMALL.convert("P"), "GIF"), 6, "<HH", 60_000, 60_000),
    "BMP": with_size(encode(SMALL, "BMP"), 18, "<ii", 30_000, -30_000),
    "WebP": with_size(encode(SMALL, "WEBP"), 26, "<HH", 16_000, 16_000),
}


@pytest.mark.parametrize("kind", HUGE)
def test_too_many_pixels_are_refused_by_name_and_size(kind, tmp_path):
    place = tmp_path / "train" / "a"
    place.mkdir(parents=True)
    (place / "huge.jpg").write_bytes(HUGE[kind])
    (place / "small.png").write_bytes(encode(SMALL, "PNG"))
    with pytest.raises(
        ValueError, match=r"huge.jpg' \(it has \d+ x \d+ pixels, and at most 89,478,485 are decoded"
    ):
        IMAGENET.read(place / "huge.jpg")
    dataset = data.load(tmp_path, "train")
    with pytest.raises(ValueError, match="pixels"):
        dataset.headers(dataset.fetch(np.array([0]))[0])
    made = data.TrainingData(dataset, batch_size=2, image_size=16, seed=0)
    ((corrupt),) = made.corrupt_at(0)
    assert corrupt.name.endswith("huge.jpg")
    assert "pixels" in corrupt.reason


def test_evaluation_leaves_large_images_out_or_names_them(tmp_path):
    place = tmp_path / "test" / "a"
    place.mkdir(parents=True)
    (place / "huge.png").write_bytes(HUGE["PNG"])
    (place / "small.png").write_bytes(encode(SMALL, "PNG"))
    dataset = data.load(tmp_path, "test")
    view = evaluation.Protocol((16,), (16,)).views(IMAGENET, 16)[0]
    with pytest.raises(
        data.CorruptImageError, match=r"huge.png cannot be used: it has 20000 x 20000 pixels"
    ):
        list(data.evaluation_batches(dataset, 2, view))
    batches = data.evaluation_batches(dataset, 2, view, skip_corrupt=True)
    assert sum(len(labels) for _, labels in batches) == 1
    assert [corrupt.name for corrupt in batches.skipped] == [str(place / "huge.png")]


def test_the_limit_is_the_documented_one():
    assert headers.MAX_PIXELS == 2**28 // 3
    header = headers.read_header(png_header(9459, 9459))
    assert not headers.find_problem(header)
    assert headers.find_problem(header._replace(height=9460))


@pytest.mark.parametrize("read", [pillow.decode, lambda raw, _: read_orientation(raw)])
def test_jpegs_of_thousands_of_scans_are_refused(read):
    """Each takes as long as decoding all pixels; those of a thumbnail and after the end do not."""
    scan, end = PROGRESSIVE.rindex(b"\xff\xda"), b"\xff\xd9"
    last = PROGRESSIVE[scan:-2]
    with pytest.raises((ValueError, tf.errors.OpError), match="it has more than 500 scans"):
        read(PROGRESSIVE[:-2] + last * 500 + end, 3)
    comment = b"\xff\xfe\x10\x00" + b"\xff\xda" * (0xFFE // 2)
    read(PROGRESSIVE[:2] + comment + PROGRESSIVE[2:-2] + last * 480 + end + last * 1000, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_only_the_first_picture_of_an_animation_is_decoded(kind):
    """100 pictures of 1 MiB would show in the memory."""
    first = Image.fromarray(np.zeros((600, 600), "uint8"))
    others = [Image.fromarray(np.full((600, 600), n, "uint8")) for n in range(1, 100)]
    encoded = encode(first, kind, save_all=True, append_images=others, duration=10)
    decode(tf.constant(encode(first, kind)), 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not decode(tf.constant(encoded), 3).numpy().any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024  # KiB


def resized_whole(image, short, interpolation):
    """As `resize`, without cropping anything first."""
    sides = [
        short if side == min(image.shape[:2]) else short * side // min(image.shape[:2])
        for side in image.shape[:2]
    ]
    resized = tf.image.resize(tf.cast(image, tf.float32), sides, interpolation, antialias=True)
    return tf.clip_by_value(tf.round(resized), 0, 255)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_centre_equals_that_of_the_whole(interpolation):
    """To the last bit up to an aspect of 4; of longer ones to the rounding of the whole's float32
    positions.
    """
    random = np.random.default_rng(0)
    for case in range(60):
        sides = random.integers(1, 60), random.integers(1, 900)
        image = random.integers(0, 256, (*sides[:: 1 if case % 3 else -1], 3), "uint8")
        short = int(random.integers(8, 90))
        size = int(random.integers(1, short + 1))
        ours, whole = (
            resize(image, short, interpolation),
            resized_whole(image, short, interpolation),
        )
        for side in (size, short):  # ten crops are taken from `short`
            differences = np.abs(crop_center(ours, side).numpy() - crop_center(whole, side).numpy())
            assert differences.max() <= (max(sides) > 4 * min(sides))
            assert (differences > 0).mean() < 0.01
        assert [int(n) for n in locate_center(ours, size)] != [-1, -1]


def test_a_thin_image_takes_little_memory(tmp_path):
    """2 x 6,000 pixels would become 256 x 768,000: 2.4 GB as float32."""
    stripes = np.random.default_rng(0).integers(0, 256, (2, 1, 3), "uint8")
    Image.fromarray(np.tile(stripes, (1, 6000, 1))).save(tmp_path / "thin.png")
    IMAGENET.read(tmp_path / "thin.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = IMAGENET.read(tmp_path / "thin.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB
    expected = Image.fromarray(np.tile(stripes, (1, 8, 1))).resize(
        (256 * 4, 256), Image.Resampling.BILINEAR
    )
    assert np.abs(image - np.asarray(expected)[16:240, 400:624]).max() <= 1
