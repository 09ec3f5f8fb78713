"""TensorFlow SavedModel."""

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np

from keras_senet.fields import check_flag
from keras_senet.graphs import has_logits, inputs_of, operation_of
from keras_senet.layers.data_format import channel_axis, from_channels_last, image_shape

from .folding import fold_if_possible
from .formats import Common, FormatOptions, export_model
from .model import (
    check_tensorflow,
    output_names,
    predict,
    prediction_function,
    unused_name,
)
from .parity import ExportReport
from .reading import ABOUT


def _predict_uint8(model, preprocessing, images):
    """What Keras outputs for the images as `serve_uint8` takes them from the runner."""
    return predict(prediction_function(model, preprocessing), images.round().clip(0, 255))


def _predict_jpeg(model, preprocessing, images):
    images = images.round().clip(0, 255)
    images = images if channel_axis() == -1 else images.transpose(0, 2, 3, 1)
    cropped = np.stack([np.asarray(preprocessing.crop(each)) for each in images])
    cropped = np.asarray(from_channels_last(cropped))
    return predict(prediction_function(model, preprocessing), cropped)


@dataclass(frozen=True)
class SavedModel(FormatOptions):
    """Options of `to_saved_model`, where they are described."""

    features: bool = False

    kind: ClassVar[str] = "savedmodel"
    signatures: ClassVar = {"serve_uint8": _predict_uint8, "serve_jpeg": _predict_jpeg}

    def __post_init__(self):
        check_flag("features", self.features)

    def check_installed(self):
        check_tensorflow("A SavedModel")

    def adapt(self, model, common):
        _check_size(model, common.preprocessing)
        if self.features and len(inputs_of(model.outputs[-1])) != 1:
            raise ValueError(
                "`features` are what the model's last layer takes, which must be one tensor. "
                f"Received: {model.name!r}, whose last layer is "
                f"{operation_of(model.outputs[-1]).name!r}"
            )
        return model

    def write(self, model, target, common):
        from .serving import write_saved_model

        write_saved_model(*_make_endpoints(model, common, self.features), target)
        about = {
            "preprocessing": common.preprocessing and dataclasses.asdict(common.preprocessing),
            "class_names": common.class_names,
            "logits": has_logits(model),
        }
        write_about(about, target)

    def write_detector(self, detector, canvases, about, target):
        from .detector.saved_model import write_folder

        write_folder(detector, canvases, target)
        write_about(about, target)


def write_about(about: dict, folder: Path) -> None:
    """What is to be known of images and classes, for those who run the folder again."""
    file = folder / ABOUT
    file.parent.mkdir()
    file.write_text(json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def to_saved_model(
    model: keras.Model,
    path,
    *,
    features: bool = False,
    images=None,
    preprocessing=None,
    class_names=None,
    overwrite: bool = False,
    evaluation=None,
    canvas=None,
) -> ExportReport:
    """Writes a SavedModel folder that runs without keras_senet and Keras, compared with the model.

    Its signatures take `images` and return `predictions`, and with `class_names` also `classes`,
    the name of each image's top-1 class; the batch is dynamic. Several outputs have the names that
    the model has for them, those of a dict or of layers; height and width are dynamic where the
    model leaves them open:

    serving_default  (batch, H, W, C) float32, as the model takes them, or 0..255 RGB with
                     `preprocessing`
    serve_uint8      with `preprocessing`: the same as uint8
    serve_jpeg       with `preprocessing` of 1 or 3 channels: (batch,) strings, encoded JPEG, PNG,
                     BMP, GIF or WebP images of up to `keras_senet.images.headers.MAX_PIXELS`, each
                     upright as its EXIF orientation says (unless `preprocessing.upright` is False),
                     resized and cropped as `Preprocessing.crop` does

    Those of a `Detector` return `boxes`, `scores`, `classes` and `count`, and are described in
    `keras_senet.export.detector.saved_model.write_folder`.

    Args:
        model: a functional Keras model with one input, for images, or a `Detector`.
        path: the folder to write.
        features: whether there is an output `features`, too: what the model's last layer takes.
        images, preprocessing, class_names, overwrite, evaluation, canvas: as `Common` has them;
            `preprocessing` is for images of the model's size.

    Returns:
        An `ExportReport`, of `serving_default`. The other signatures are run and compared, too.

    Raises:
        ParityError: if the outputs are not within 1e-4 of the largest one, and further off than
            rounding moves the model's own, or another detection than the `Detector` makes; nothing
            is left at `path`.
        ValueError, OSError: for a wrong argument, another backend than TensorFlow, a path that
            exists or cannot be written.
    """
    common = Common(images, preprocessing, class_names, overwrite, None, evaluation, canvas)
    return export_model(model, path, SavedModel(features), common)


def _check_size(model, preprocessing):
    """Raises ValueError for another size than the model's, to which `serve_jpeg` would crop."""
    if preprocessing is None:
        return
    height, width, _ = image_shape(model.inputs[0])
    if height not in (None, preprocessing.height) or width not in (None, preprocessing.width):
        raise ValueError(
            f"`preprocessing` must be for images of the model's size, {height} x {width}. "
            f"Received: preprocessing of size {preprocessing.size}"
        )


def _make_endpoints(model, common, features):
    """(a model of all outputs, tf.functions of it by the names of their signatures)."""
    import tensorflow as tf

    outputs = dict(zip(output_names(model), model.outputs, strict=True))
    if features:
        (outputs[unused_name("features", outputs)],) = inputs_of(model.outputs[-1])
    whole = fold_if_possible(keras.Model(model.inputs[0], list(outputs.values())))
    compute = prediction_function(whole, common.preprocessing, list(outputs))
    make = partial(_make_endpoint, compute, common.class_names)
    shape, channels = tuple(model.inputs[0].shape[1:]), image_shape(model.inputs[0])[2]
    found = {"serving_default": make(tf.float32, shape, lambda images: images)}
    if common.preprocessing is not None:
        found["serve_uint8"] = make(tf.uint8, shape, lambda images: tf.cast(images, tf.float32))
        if channels in (1, 3):
            decode_all = partial(_decode, common.preprocessing, channels)
            found["serve_jpeg"] = make(tf.string, (), decode_all)
    return whole, found


def _make_endpoint(compute, class_names, dtype, shape, prepare):
    import tensorflow as tf

    spec = tf.TensorSpec((None, *shape), dtype, name="images")

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images):
        computed = compute(prepare(images))
        outputs = {name: tf.cast(value, tf.float32) for name, value in computed.items()}
        if class_names is not None:
            top1 = tf.argmax(outputs["predictions"], axis=-1)
            outputs["classes"] = tf.gather(class_names, top1)
        return outputs

    return serve


def _decode(preprocessing, channels, encoded):
    """Encoded images (batch,) -> float32 of 0..255, as the model takes them."""
    import tensorflow as tf

    from keras_senet.images.decoding import decode, read_orientation

    shape = (preprocessing.height, preprocessing.width, channels)

    def prepare(raw):
        orientation = read_orientation(raw)  # also refuses what has too many pixels
        upright = orientation if preprocessing.upright else 1
        image = decode(raw, channels, upright, portable=True)
        return tf.ensure_shape(preprocessing.crop(image), shape)

    images = tf.map_fn(prepare, encoded, fn_output_signature=tf.TensorSpec(shape, tf.float32))
    return from_channels_last(images)
