"""The SavedModel of a detector."""

from typing import Any

import tensorflow as tf

from keras_senet.detection import Detector
from keras_senet.detection import boxes as box
from keras_senet.detection.canvas import MULTIPLE, place
from keras_senet.images.decoding import decode

from ..serving import write_saved_model


def write_folder(detector: Detector, canvases: list[tuple[int, int]], folder: Any) -> None:
    """Writes the folder.

    Its signatures return `boxes` (most, 4), x1, y1, x2, y2, `scores` (most,), `classes` (most,) and
    `count`, after which come zeros:

    serving_default  `images` (1, H, W, C) float32, normalised and padded with zeros at the right
                     and at the bottom, and `size` (2,) int32, the height and width without that
                     border, for the first canvas; boxes are in its pixels
    canvas_HxW       the same for each further canvas
    serve_uint8      `images` (batch, height, width, C), of any size; what is returned has an axis
                     `batch`, too, and boxes are in the images' own pixels
    serve_jpeg       the same of strings (batch,): encoded JPEG, PNG, BMP, GIF or WebP images, each
                     upright as its EXIF orientation says
    """
    channels = len(detector.preprocessing.mean)
    pixels = tf.TensorSpec((None, None, channels), tf.uint8, name="images")

    @tf.function(input_signature=[pixels], autograph=False)
    def detect(image):
        return _detect(detector, image)

    functions = {signature_of(canvases, canvas): detector.function(*canvas) for canvas in canvases}
    most = detector.spec.most
    functions["serve_uint8"] = _batched(pixels, detect, most)
    if channels in (1, 3):
        encoded = tf.TensorSpec((), tf.string, name="images")
        read = lambda raw: detect(decode(raw, channels, portable=True))  # noqa: E731
        functions["serve_jpeg"] = _batched(encoded, read, most)
    write_saved_model(detector, functions, folder)


def signature_of(canvases: list[tuple[int, int]], canvas: tuple[int, int]) -> str:
    """The name of a canvas' signature."""
    height, width = canvas
    return "serving_default" if canvas == canvases[0] else f"canvas_{height}x{width}"


def _batched(spec, detect, most):
    """A tf.function of several images as `detect` takes one of."""
    outputs = {
        "boxes": tf.TensorSpec((most, 4), tf.float32),
        "scores": tf.TensorSpec((most,), tf.float32),
        "classes": tf.TensorSpec((most,), tf.int32),
        "count": tf.TensorSpec((), tf.int32),
    }

    spec = tf.TensorSpec((None, *spec.shape), spec.dtype, name=spec.name)

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images):
        return tf.map_fn(detect, images, fn_output_signature=outputs, parallel_iterations=1)

    return serve


def _detect(detector, image):
    """`Detector.detect` of one image (H, W, C), in a graph."""
    shape = tf.shape(image)[:2]
    size = resized_size(shape, detector.spec.short, detector.spec.long)
    canvas = -(-size // MULTIPLE) * MULTIPLE
    padded = place(image, detector.preprocessing, size, canvas)
    boxes, scores, classes, count = detector.detect_in_canvas(padded, size)
    boxes = box.scale(boxes, shape / size)
    return {"boxes": boxes, "scores": scores, "classes": classes, "count": count}


def resized_size(shape: tf.Tensor, short: int, long: int) -> tf.Tensor:
    """`canvas.resized_size` of a tensor (height, width), int32."""
    sides = tf.cast(shape, tf.float64)  # as Python computes it
    factor = tf.minimum(short / tf.reduce_min(sides), long / tf.reduce_max(sides))
    return tf.cast(tf.maximum(tf.floor(sides * factor), 1), tf.int32)
