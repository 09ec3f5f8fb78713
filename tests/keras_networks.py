"""Networks that are not ours, for the exporters: those of `keras.applications`, and tiny ones of
one thing each.

As a program it writes the table of all of them in all formats: `python tests/keras_networks.py
results/foreign.md`.
"""

import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import keras_senet

RANDOM = np.random.default_rng(0)


def _tiny(build, shape=(16, 16, 3)):
    """A model of one convolution, what is built on it, and a classifier."""
    x = keras.Input(shape)
    return keras.Model(x, build(x))


def _head(x):
    return layers.Dense(4)(layers.GlobalAveragePooling2D()(x))


def _normalized(x):
    normalization = layers.Normalization()
    normalization.adapt(RANDOM.normal(3, 2, (16, *x.shape[1:])).astype("float32"))
    return _head(layers.Conv2D(8, 3, activation="relu")(normalization(x)))


def _variances(x):
    return _head(
        layers.Conv2D(8, 3)(layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(x))
    )


def _preprocessed(mode):
    def build(x):
        return _head(
            layers.Conv2D(8, 3)(keras.applications.imagenet_utils.preprocess_input(x, mode=mode))
        )

    return build


def _ours(x):
    return _head(layers.Conv2D(8, 3)(keras_senet.preprocess_input(x)))


def _normalize(x):
    return _head(layers.Conv2D(8, 3)(keras_senet.Preprocessing.scaled(16).normalize(x)))


def _captured_map(x):
    return _head(
        layers.Conv2D(8, 3)(
            x * ops.convert_to_tensor(RANDOM.normal(size=(16, 16, 3)).astype("float32"))
        )
    )


def _rescaled(x):
    return _head(layers.Conv2D(8, 3)(layers.Rescaling([1.0, 0.5, 2.0], [0.0, 1.0, -1.0])(x)))


def _augmented(x):
    for layer in (
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.1),
    ):
        x = layer(x)
    return _head(layers.Conv2D(8, 3)(x))


def _gelu(x):
    exact = layers.Activation("gelu")(layers.Conv2D(8, 3)(x))
    return _head(ops.gelu(layers.LayerNormalization()(exact), approximate=True))


def _shared(x):
    conv = layers.Conv2D(3, 3, padding="same", activation="relu")
    return _head(layers.Add()([conv(conv(x)), conv(x)]))


def _several(x):
    y = layers.Conv2D(8, 3, activation="relu")(x)
    return {
        "classes": _head(y),
        "box": layers.Dense(4, activation="sigmoid")(layers.GlobalMaxPooling2D()(y)),
        "map": y,
    }


def _separable(x):
    y = layers.SeparableConv2D(8, 3, depth_multiplier=2, activation="relu")(x)
    return _head(layers.DepthwiseConv2D(3, strides=2, padding="same")(y))


def _upsampled(x):
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    up = [
        layers.Conv2DTranspose(4, 3, strides=2, padding="same")(y),
        layers.UpSampling2D(interpolation="bilinear")(y),
    ]
    return layers.Conv2D(2, 1, activation="sigmoid")(layers.Concatenate()([*up, x]))


def _rectified(x):
    y = layers.PReLU(
        shared_axes=[1, 2], alpha_initializer=keras.initializers.RandomUniform(0.1, 0.4, seed=0)
    )(x)
    y = layers.LeakyReLU(0.1)(layers.Conv2D(8, 3)(y))
    return _head(layers.ELU()(layers.Conv2D(8, 3)(y)))


def _attention(x):
    y = layers.Reshape((16, 48))(layers.Conv2D(48, 4, strides=4)(x))
    y = layers.Add()([y, layers.MultiHeadAttention(2, 16)(y, y)])
    return layers.Dense(4)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(y)))


def _grouped(x):
    y = layers.GroupNormalization(4)(layers.Conv2D(8, 3)(x))
    return _head(layers.Conv2D(8, 3, activation="hard_swish")(y))


def _in_groups(x):
    """By a network of layers that only tf2onnx converts, in two and in one dimension."""
    y = layers.LayerNormalization()(layers.Conv2D(8, 1, strides=2)(x))
    y = layers.Conv2D(8, 7, groups=8, padding="same", activation="gelu")(y)
    y = layers.Conv2D(8, 3, groups=2, padding="same", dilation_rate=2)(y)
    y = layers.Conv1D(8, 3, groups=4)(layers.Reshape((64, 8))(y))
    return layers.Dense(4)(layers.GlobalAveragePooling1D()(y))


def _nested(x):
    body = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.Rescaling(1 / 127.5, -1), layers.Conv2D(8, 3)]
    )
    return _head(keras_senet.SqueezeExcite(2)(body(x)))


TINY = {
    "Normalization, adapted": _normalized,
    "Normalization, given": _variances,
    "preprocess_input, torch": _preprocessed("torch"),
    "preprocess_input, caffe": _preprocessed("caffe"),
    "preprocess_input, tf": _preprocessed("tf"),
    "keras_senet.preprocess_input": _ours,
    "Preprocessing.normalize": _normalize,
    "a captured map": _captured_map,
    "Rescaling per channel": _rescaled,
    "augmentation": _augmented,
    "gelu, LayerNormalization": _gelu,
    "shared layers": _shared,
    "several outputs": _several,
    "separable, depthwise": _separable,
    "transposed, upsampled": _upsampled,
    "PReLU, LeakyReLU, ELU": _rectified,
    "attention": _attention,
    "GroupNormalization": _grouped,
    "convolutions in groups": _in_groups,
    "nested, with SE": _nested,
}
APPLICATIONS = {
    "EfficientNetB0": 32,
    "MobileNetV3Small": 32,
    "ConvNeXtTiny": 32,
    "ResNet50V2": 32,
    "MobileNetV2": 32,
    "VGG16": 32,
    "DenseNet121": 32,
    "EfficientNetV2B0": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "NASNetMobile": 32,
}
NETWORKS = [*TINY, *APPLICATIONS]


def build(name):
    """One of `NETWORKS`, with seeded random weights."""
    keras.utils.set_random_seed(0)
    if name in TINY:
        return _tiny(TINY[name])
    size = APPLICATIONS[name]
    # Logits: the probabilities of networks that are not trained are often all the same.
    options = {"classes": 10, "classifier_activation": None}
    if name in ("NASNetMobile", "VGG16"):  # their tops ask for larger images, or are large
        options = {"include_top": False, "pooling": "avg"}
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), **options)


def images_for(model, count=3):
    """Pixels (N, H, W, 3) of 0..255, which some of the networks expect."""
    return (
        np.random.default_rng(1).uniform(0, 255, (count, *model.input_shape[1:])).astype("float32")
    )


def expected(model, images):
    """What Keras predicts, by the names that files have for the outputs."""
    outputs = model.predict(images, verbose=0)
    return outputs if isinstance(outputs, dict) else {"predictions": outputs}


def relative_error(found, right):
    """The largest difference over the largest number of an output, over all outputs."""
    assert set(found) == set(right)
    assert all(found[name].shape == values.shape for name, values in right.items())
    return max(
        float(np.abs(found[name] - values).max() / np.abs(values).max())
        for name, values in right.items()
    )


def _cell(kind, model, images):
    from runtimes import WRITERS, run

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        start = time.process_time()
        try:
            WRITERS[kind](model, path)
        except ValueError as error:
            return f"refused: {' '.join(str(error).split())}"
        error = relative_error(run(kind, path, images), expected(model, images))
        return f"{error:.1e}, {time.process_time() - start:.0f} s"


def main(path):
    packages = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "numpy")
    lines = [
        "# Other Keras networks in each format",
        "",
        "Made by `python tests/keras_networks.py results/foreign.md` with "
        + ", ".join(f"{package} {version(package)}" for package in packages)
        + ", on a CPU.",
        "",
        "The tests' code ran each file in its own runtime on three images in 0..255 and compared "
        "the outputs with those of `model.predict` in NumPy. A cell has the relative error (max. "
        "abs. error / max. abs. output) and the CPU time of the export in the exporting process. "
        "Weights are random.",
        "",
        "| network | SavedModel | TFLite | ONNX |",
        "|---|---|---|---|",
    ]
    for name in NETWORKS:
        model = build(name)
        images = images_for(model)
        cells = (_cell(kind, model, images) for kind in ("savedmodel", "tflite", "onnx"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        Path(path).write_text("\n".join(lines) + "\n")
        keras.backend.clear_session()


if __name__ == "__main__":
    main(*sys.argv[1:])
