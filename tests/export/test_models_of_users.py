"""Models as users build them, in each format, run by their runtimes and compared with
`model.predict` by NumPy.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from runtimes import WRITERS, run, run_in_this_process

import keras_senet
from keras_senet import export
from keras_senet.export import parity
from keras_senet.export.model import output_names
from keras_senet.models.resnet import SmallResNet

pytestmark = pytest.mark.usefixtures("graphs_as_traced")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(parity, "run_file", run_in_this_process)
    keras.utils.set_random_seed(0)


def pixels(model):
    """Whole numbers of 0..255, as many as a model of a fixed batch takes."""
    batch, *shape = model.inputs[0].shape
    return np.random.default_rng(1).integers(0, 256, (batch or 3, *shape)).astype("float32")


# Each runtime adds up float32 products in its own order, over pixels of 0..255 in some models; a
# wrong model differs by a hundredth.
TOLERANCE = 5e-5


def check(kind, model, path, tolerance=TOLERANCE):
    WRITERS[kind](model, path)
    images = pixels(model)
    found, right = run(kind, path, images), keras.tree.flatten(model.predict(images, verbose=0))
    for name, values in zip(output_names(model), right, strict=True):
        assert np.abs(values).max() > 0
        assert found[name].shape == values.shape
        assert np.abs(found[name] - values).max() <= tolerance * np.abs(values).max()


def head(x):
    return layers.Dense(4)(layers.GlobalAveragePooling2D()(x))


def of(build, **options):
    x = keras.Input(**{"shape": (8, 8, 3)} | options)
    return keras.Model(x, build(x))


def adapted(axis=-1):
    layer = layers.Normalization(axis=axis)
    layer.adapt(
        np.random.default_rng(0).normal((100, 110, 120), 40, (8, 8, 8, 3)).astype("float32")
    )
    return layer


def of_maps(x):
    inner = keras.Input(x.shape[1:])
    maps = keras.Model(
        inner, {"large": layers.Conv2D(4, 3)(inner), "small": layers.Conv2D(4, 3, 2)(inner)}
    )(x)
    return layers.Concatenate()([head(maps["large"]), head(maps["small"])])


def of_operations(x):
    y = layers.Conv2D(4, 3)(x / 255.0)[:, 1:-1, ::2]
    y = ops.where(y > 0, y, 0.1 * y) ** 2
    return ops.softmax(head(ops.concatenate([y, ops.sin(y)], axis=-1)))


def of_equal_names(x):
    heads = [
        keras.Sequential([keras.Input((4,)), layers.Dense(units, name="scores")])
        for units in (2, 3)
    ]
    return [each(head(x)) for each in heads]


def of_a_network(x):
    """A head on a network, as Keras' guides build it: augmented, normalised, pooled, a head."""
    network = keras_senet.application(SmallResNet((1, 1)), name="tiny", input_size=8, min_size=8)
    x = adapted()(layers.RandomZoom(0.1)(layers.RandomFlip()(x)))
    x = network(include_top=False, pooling="avg", weights=None)(x, training=False)
    return layers.Dense(4, "softmax")(layers.Dropout(0.2)(layers.BatchNormalization()(x)))


def doubled(x):
    return ops.relu(x) * 2


def with_adapters():
    """LoRA's weights beside the kernels, and an activation that no file of Keras describes."""
    model = of(
        lambda x: layers.Dense(4)(
            layers.GlobalMaxPooling2D()(
                layers.Activation(doubled)(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
            )
        )
    )
    for layer in (model.layers[1], model.layers[-1]):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=layer.lora_kernel_b.shape))
    return model


MODELS = {
    "adapters": with_adapters,
    "a head on a network": lambda: of(of_a_network),
    "integers": lambda: of(
        lambda x: head(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(x))), dtype="uint8"
    ),
    "integers, cast": lambda: of(
        lambda x: head(layers.Conv2D(4, 3)(ops.cast(x, "float32"))), dtype="uint8"
    ),
    "four at a time": lambda: of(
        lambda x: head(layers.Conv2D(4, 3)(x)), shape=None, batch_shape=(4, 8, 8, 3)
    ),
    "normalised": lambda: of(lambda x: head(layers.Conv2D(4, 3)(adapted()(x)))),
    "normalised at once": lambda: of(lambda x: head(layers.Conv2D(4, 3)(adapted(axis=None)(x)))),
    "a model of maps inside": lambda: of(of_maps),
    "operations": lambda: of(of_operations),
    "equal names": lambda: of(of_equal_names),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_a_user(name, kind, tmp_path):
    check(kind, MODELS[name](), tmp_path / "file")


COPIES = {
    "fold": export.fold,
    "add_se": lambda model: keras_senet.add_se(model, after="conv"),
    "of_shape": lambda model: export.model.of_shape(model, (8, 8, 3)),
}


@pytest.mark.parametrize("axis", [-1, None, (1, 2, 3)])
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_has_what_its_normalization_is_adapted_to(name, axis):
    """Its mean and variance are constants that Keras computes when it adapts, not when it sets
    weights.
    """
    model = of(lambda x: head(layers.Conv2D(4, 3, name="conv")(adapted(axis)(x))))
    images = pixels(model)
    maps = [
        keras.Model(each.input, each.get_layer("conv").output)
        for each in (COPIES[name](model), model)
    ]
    np.testing.assert_allclose(
        *(each.predict(images, verbose=0) for each in maps), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", WRITERS)
def test_a_normalization_of_mixed_precision(kind, tmp_path):
    """The file is compared with a copy in float32, which a wrong copy would agree with."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = of(lambda x: head(layers.Conv2D(4, 3)(adapted()(x))))
    finally:
        keras.config.set_dtype_policy("float32")
    check(kind, model, tmp_path / "file", tolerance=5e-3)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_layer_within_another_of_mixed_precision(kind, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = of(lambda x: head(layers.SpectralNormalization(layers.Conv2D(4, 3))(x / 255)))
    finally:
        keras.config.set_dtype_policy("float32")
    check(kind, model, tmp_path / "file", tolerance=5e-3)


def test_weights_that_keras_has_quantised(tmp_path):
    model = of(lambda x: layers.Dense(4)(layers.Flatten()(x / 255)))
    model.layers[-1].quantize("int8")
    check("onnx", model, tmp_path / "file")


def test_gates_of_a_network_under_a_head_are_in_an_onnx_file(tmp_path):
    """Its augmentation and normalisation are known to the exporter: tf2onnx has no gates."""
    model = of(of_a_network)
    export.to_onnx(model, tmp_path / "file", gates=True)
    images = pixels(model)
    found = run("onnx", tmp_path / "file", images)
    right = keras_senet.analysis.gates(model).predict(images, verbose=0)
    assert len(right) == 2
    for name, gates in right.items():
        np.testing.assert_allclose(
            found[f"gates/{name.removeprefix('tiny/')}"], gates[:, 0, 0], rtol=1e-4, atol=1e-5
        )


def test_integers_are_what_an_onnx_file_computes_of(tmp_path):
    """Keras cuts the fractions of images for an input of uint8."""
    model = MODELS["integers"]()
    export.to_onnx(model, tmp_path / "file")
    images = pixels(model)
    found = [
        run("onnx", tmp_path / "file", given)["predictions"]
        for given in (images, np.minimum(images + 0.7, 255))
    ]
    np.testing.assert_array_equal(*found)


class Counting(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x + self.count


class Host(layers.Layer):
    def call(self, x):
        return ops.reshape(
            tf.numpy_function(lambda values: values * 2, [x], tf.float32), ops.shape(x)
        )

    def compute_output_shape(self, shape):
        return shape


FOUR = {"shape": None, "batch_shape": (4, 8, 8, 3)}
REFUSED = {
    "of four": lambda: of(lambda x: layers.Dense(2)(ops.reshape(x, (4, -1))), **FOUR),
    "four at the end": lambda: of(lambda x: ops.reshape(x, (4, -1)), **FOUR),
    "counting": lambda: of(lambda x: head(Counting()(x))),
    "Python": lambda: of(lambda x: head(Host()(x))),
}
MESSAGES = {
    "of four": "`model` must take any number of images, as files do. "
    "Received: .* take 4 at a time$",
    "four at the end": "take 4 at a time$",
    "counting": "`model` must leave its variables as they are, .*Assign.*$",
    "Python": "has something that (TFLite|ONNX) has not: .*PyFunc",
}
KINDS = {"counting": ["onnx"], "Python": ["tflite", "onnx"]}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in REFUSED for kind in KINDS.get(name, WRITERS)]
)
def test_what_no_file_can_compute(name, kind, tmp_path):
    with pytest.raises(ValueError, match=MESSAGES[name]) as refused:
        WRITERS[kind](REFUSED[name](), tmp_path / "file")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
