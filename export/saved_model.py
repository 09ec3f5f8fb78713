"""TensorFlow SavedModel."""

import keras
import tensorflow as tf

from keras_senet.graphs import flat_layers
from keras_senet.images.decoding import decode, read_orientation

from .conditioning import FLOAT32
from .folding import fold
from .graph import (
    check_exportable,
    check_tensorflow,
    checked_class_names,
    image_shape,
    output_names,
    predict,
    prediction_function,
    unused_name,
    write_saved_model,
)
from .parity import export


def to_saved_model(model, path, *, features=False, images=None, preprocessing=None, class_names=None, overwrite=False):
    """Writes a SavedModel folder that runs without keras_senet and Keras, compared with the model.

    Its signatures take `images` and return `predictions`, and with `class_names` also `classes`, the name of each
    image's top-1 class; the batch is dynamic. Several outputs have the names that the model has for them, those of a
    dict or of layers; height and width are dynamic where the model leaves them open:

    serving_default  (batch, H, W, C) float32, as the model takes them, or 0..255 RGB with `preprocessing`
    serve_uint8      with `preprocessing`: the same as uint8
    serve_jpeg       with `preprocessing` of 1 or 3 channels: (batch,) strings, encoded JPEG, PNG, BMP, GIF or WebP
                     images of up to `keras_senet.images.headers.MAX_PIXELS`, each upright as its EXIF orientation says
                     (unless `preprocessing.upright` is False), resized and cropped as `Preprocessing.crop` does

    Args:
        model: a functional Keras model with one input, for images.
        path: the folder to write.
        features: whether there is an output `features`, too: what the model's last layer takes.
        images: (N, H, W, C) to compare on, as the exported model takes them; None makes seeded synthetic ones.
        preprocessing: a `Preprocessing` to put into the graph, for images of the model's size.
        class_names: the names of the classes, in the order of the model's output.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`, of `serving_default`. The other signatures are run and compared, too.

    Raises:
        ParityError: if the outputs are not within 1e-4 of the largest one, and further off than rounding moves the
            model's own; nothing is left at `path`.
        ValueError, OSError: for a wrong argument, another backend than TensorFlow, a path that exists or cannot be
            written.
    """
    check_tensorflow("A SavedModel")
    check_exportable(model, preprocessing)
    _check_size(model, preprocessing)
    class_names = checked_class_names(model, class_names)
    if features and not isinstance(model.layers[-1].input, keras.KerasTensor):
        raise ValueError(
            "`features` are what the model's last layer takes, which must be one tensor. "
            f"Received: {model.name!r}, whose last layer is {model.layers[-1].name!r}"
        )

    def write(model, target):
        endpoints = _Endpoints(model, preprocessing, class_names, features)
        write_saved_model(endpoints.model, endpoints.all(), target)

    return export(
        write,
        model,
        path,
        kind="savedmodel",
        quantization=None,
        images=images,
        preprocessing=preprocessing,
        overwrite=overwrite,
        precision=FLOAT32,
        references=_REFERENCES if preprocessing is not None else {},
    )


def _check_size(model, preprocessing):
    """Raises ValueError for another size than the model's, to which `serve_jpeg` would crop."""
    if preprocessing is None:
        return
    height, width, _ = image_shape(model)
    if height not in (None, preprocessing.height) or width not in (None, preprocessing.width):
        raise ValueError(
            f"`preprocessing` must be for images of the model's size, {height} x {width}. "
            f"Received: preprocessing of size {preprocessing.size}"
        )


def _folded(model):
    """The model with batch normalisation inside its convolutions, or itself where that would not be equal.

    The machine that will run the file is not known, and on one with AVX2 and oneDNN an image alone takes TensorFlow's
    fused operation for both 15 times as long. Half precision would round the new kernels.
    """
    if any(layer.compute_dtype != "float32" for layer in flat_layers(model)):
        return model
    try:
        return fold(model)
    except ValueError:  # a layer of another library that cannot be copied
        return model


class _Endpoints:
    """The functions of a SavedModel."""

    def __init__(self, model, preprocessing, class_names, features):
        self.preprocessing, self.class_names = preprocessing, class_names
        self.input_shape = tuple(model.inputs[0].shape[1:])
        self.channels = image_shape(model)[2]
        outputs = dict(zip(output_names(model), model.outputs, strict=True))
        if features:
            outputs[unused_name("features", outputs)] = model.layers[-1].input
        self.model = _folded(keras.Model(model.inputs[0], list(outputs.values())))
        self.compute = prediction_function(self.model, preprocessing, list(outputs))

    def all(self):
        found = {"serving_default": self._function(tf.float32, self.input_shape, lambda images: images)}
        if self.preprocessing is not None:
            found["serve_uint8"] = self._function(tf.uint8, self.input_shape, lambda x: tf.cast(x, tf.float32))
            if self.channels in (1, 3):
                found["serve_jpeg"] = self._function(tf.string, (), self._decoded)
        return found

    def _function(self, dtype, shape, prepare):
        @tf.function(input_signature=[tf.TensorSpec((None, *shape), dtype, name="images")])
        def serve(images):
            computed = self.compute(prepare(images))
            outputs = {name: tf.cast(value, tf.float32) for name, value in computed.items()}
            if self.class_names is not None:
                outputs["classes"] = tf.gather(self.class_names, tf.argmax(outputs["predictions"], axis=-1))
            return outputs

        return serve

    def _decoded(self, encoded):
        """Encoded images (batch,) -> float32 of 0..255, as the model takes them."""
        shape = (self.preprocessing.height, self.preprocessing.width, self.channels)

        def prepared(raw):
            orientation = read_orientation(raw)  # also refuses what has too many pixels
            image = decode(raw, self.channels, orientation if self.preprocessing.upright else 1)
            return tf.ensure_shape(self.preprocessing.crop(image), shape)

        images = tf.map_fn(prepared, encoded, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        is_last = keras.config.image_data_format() == "channels_last"
        return images if is_last else tf.transpose(images, (0, 3, 1, 2))


def _uint8_reference(model, preprocessing, images):
    """What Keras answers to the images as `serve_uint8` gets them from the runner."""
    return predict(prediction_function(model, preprocessing), images.round().clip(0, 255))


def _jpeg_reference(model, preprocessing, images):
    """The same for `serve_jpeg`, which gets them as PNG."""
    is_last = keras.config.image_data_format() == "channels_last"
    images = images.round().clip(0, 255)
    images = images if is_last else images.transpose(0, 2, 3, 1)
    cropped = tf.stack([preprocessing.crop(image) for image in images]).numpy()
    cropped = cropped if is_last else cropped.transpose(0, 3, 1, 2)
    return predict(prediction_function(model, preprocessing), cropped)


_REFERENCES = {"serve_uint8": _uint8_reference, "serve_jpeg": _jpeg_reference}
