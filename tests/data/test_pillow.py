"""Images that are read without TensorFlow have the pixels that TensorFlow gives."""

import io
import itertools
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_senet.images import decoding, pillow
from keras_senet.preprocessing import Preprocessing


def smooth(height, width, channels=3, seed=0):
    """Random, and smooth enough for JPEG."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 4 + 2, width // 4 + 2, channels), "uint8")
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encode(kind, **options):
    exif = Image.Exif()
    exif[0x112] = options.pop("orientation", 1)
    file = io.BytesIO()
    picture = Image.fromarray(smooth(47, 61)).convert(options.pop("mode", "RGB"))
    picture.save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    return file.getvalue()


FILES = [
    *(("JPEG", {"orientation": n}) for n in range(1, 9)),
    *(("PNG", {"mode": mode}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
    ("PNG", {"orientation": 6}),
    ("JPEG", {"mode": "L"}),
    ("JPEG", {"mode": "CMYK"}),
    *((kind, {}) for kind in ("BMP", "GIF", "WEBP")),
]


@pytest.mark.parametrize(("kind", "options"), FILES, ids=str)
def test_decoded_images_are_equal(kind, options):
    content = encode(kind, **options)
    for channels, upright in itertools.product((1, 3), (True, False)):
        expected = decoding.decode(content, channels, None if upright else 1)
        np.testing.assert_array_equal(pillow.decode(content, channels, upright), expected)


def test_four_colours_are_inverted_with_and_without_adobes_marker():
    """As browsers and Pillow take them; both round a product of two colours, each in its way."""
    file = io.BytesIO()
    Image.fromarray(smooth(47, 61, 4), "CMYK").save(file, "JPEG", quality=95)
    marked = file.getvalue()
    at = marked.index(b"\xff\xee")
    length = 2 + int.from_bytes(marked[at + 2 : at + 4], "big")
    for content in (marked, marked[:at] + marked[at + length :]):
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        found = decoding.decode(content, 3).numpy().astype(int)
        assert np.abs(found - expected).max() <= 1
        assert np.abs(pillow.decode(content, 3) - expected).max() == 0
        window = decoding.decode_jpeg_window(content, 3, (0, 0, 47, 61), 1)
        np.testing.assert_array_equal(window, found)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(47, 61), (500, 333), (9, 300), (700, 20), (32, 32), (5, 4)])
@pytest.mark.parametrize("size", [32, (24, 40), 64])
def test_cropped_images_are_equal(shape, size, interpolation):
    """But for halves, which sums of float32 in another order round to one more or less."""
    image = smooth(*shape)
    preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3, size, 0.875, interpolation)
    expected = preprocessing.crop(image).numpy()
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    found = preprocessing._read_by_pillow(content.getvalue())
    assert found.dtype == np.float32
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-2


def test_long_images_take_little_memory():
    """A row of an image of 2 x 200,000 pixels, 224 times, would be 0.5 GB."""
    image = np.tile(smooth(2, 50), (1, 4000, 1))
    preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3)
    for turned in (image, image.swapaxes(0, 1)):
        tracemalloc.start()
        found = pillow.crop(turned, (256, 256), (224, 224), "bilinear", 4)
        assert tracemalloc.get_traced_memory()[1] < 2**25
        tracemalloc.stop()
        difference = np.abs(found - preprocessing.crop(turned))
        assert difference.max() <= 1
        assert np.mean(difference > 0) < 1e-2


def test_a_picture_that_is_larger_than_its_header_says_is_not_decoded():
    content = bytearray(encode("GIF"))
    at = content.index(b",\0\0\0\0")
    content[at + 5 : at + 9] = struct.pack("<HH", 16000, 5600)
    with pytest.raises(ValueError, match="it has 16000 x 5600 pixels, and at most 89,478,485"):
        pillow.decode(bytes(content), 3)


def test_files_are_read_by_pillow_before_tensorflow_is_imported(tmp_path, monkeypatch):
    preprocessing = Preprocessing((0.0,), (1.0,), 16)
    (tmp_path / "a.jpg").write_bytes(encode("JPEG", orientation=6))
    expected = preprocessing.read(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes(encode("JPEG")[:300])
    (tmp_path / "text.jpg").write_text("text")
    monkeypatch.delitem(sys.modules, "tensorflow")
    monkeypatch.setattr(Preprocessing, "_read", None)
    np.testing.assert_allclose(preprocessing.read(tmp_path / "a.jpg"), expected, atol=1)
    for name, reason in {"cut": "it is damaged or not complete", "text": "it is none of"}.items():
        with pytest.raises(ValueError, match=f"Not an image that can be decoded: .*{reason}"):
            preprocessing.read(tmp_path / f"{name}.jpg")
    assert tf.__name__ == "tensorflow"
