"""The layers have the numbers of what they replace, in every dtype, layout and mode."""

import functools
import inspect
import itertools
import math
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from gate_formulas import GATE_FORMULAS

from keras_senet.layers import BatchNormalization, GroupedConv2D, SqueezeExcite
from keras_senet.se import GATES

ONEDNN = os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"
NEEDS_ONEDNN = pytest.mark.skipif(not ONEDNN, reason="channels_first needs oneDNN on a CPU")
LAYOUTS = ("channels_last", "channels_first")
FORMATS = [LAYOUTS[0], pytest.param(LAYOUTS[1], marks=NEEDS_ONEDNN)]
# Largest difference over largest magnitude: a few roundings in the dtype's own precision.
TOLERANCE = {
    "float64": 1e-12,
    "float32": 2e-5,
    "float16": 4e-3,
    "bfloat16": 3e-2,
    "mixed_float16": 4e-3,
    "mixed_bfloat16": 3e-2,
}
EXECUTIONS = {
    "eager": lambda f: f,
    "graph": functools.partial(tf.function, autograph=False),
    "xla": functools.partial(tf.function, autograph=False, jit_compile=True),
}


def each_way(
    argument,
    values,
    dtypes=tuple(TOLERANCE),
    compiled=("float32", "float16", "float64", "mixed_bfloat16"),
):
    """Eagerly all. Graphs are traced and XLA compiles for long: of their dtypes, layouts and values
    those on a diagonal, which has each of the three; the others are slow tests.
    """
    params = []
    for number, value in enumerate(values):
        diagonal = {
            ("graph", compiled[number % len(compiled)], LAYOUTS[number % 2]),
            ("graph", compiled[(number + 1) % len(compiled)], LAYOUTS[(number + 1) % 2]),
            ("xla", compiled[(number + 2) % len(compiled)], "channels_last"),
            *([("xla", "float32", "channels_first")] if number == 0 else []),
        }
        for data_format, dtype, execution in itertools.product(LAYOUTS, dtypes, EXECUTIONS):
            marks = [NEEDS_ONEDNN] if data_format == "channels_first" else []
            if execution != "eager" and (execution, dtype, data_format) not in diagonal:
                marks.append(pytest.mark.slow)
            name = f"{value}-{dtype}-{execution}-{data_format}"
            params.append(pytest.param(value, dtype, execution, data_format, marks=marks, id=name))
    return pytest.mark.parametrize((argument, "dtype", "execution", "data_format"), params)


def relative_error(values, reference):
    values, reference = (np.asarray(v, "float64") for v in (values, reference))
    return np.abs(values - reference).max() / max(np.abs(reference).max(), 1e-30)


def step(layer, images, seed_gradient, execution="eager", **call):
    """Output, then the gradients of sum(output * seed_gradient) by the input and each trainable
    variable.
    """

    @EXECUTIONS[execution]
    def run(images, seed_gradient):
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images, **call)
            loss = tf.reduce_sum(tf.cast(output, seed_gradient.dtype) * seed_gradient)
        return output, *tape.gradient(loss, [images, *[v.value for v in layer.trainable_variables]])

    return [keras.ops.convert_to_numpy(tf.cast(v, "float64")) for v in run(images, seed_gradient)]


def random(*shape, dtype="float32", seed=0):
    return tf.cast(np.random.default_rng(seed).normal(size=shape), dtype)


def shaped(data_format, n, size, channels):
    return (
        (n, size, size, channels) if data_format == "channels_last" else (n, channels, size, size)
    )


CONVOLUTIONS = [{}, {"strides": 2, "padding": "same"}, {"dilation_rate": 2}]
GROUPED = {"filters": 12, "kernel_size": 3, "groups": 4}


@each_way("options", CONVOLUTIONS, compiled=("float32", "float16"))
def test_grouped_convolution_is_a_convolution_of_each_group(dtype, data_format, options, execution):
    ours = GroupedConv2D(**GROUPED, data_format=data_format, dtype=dtype, **options)
    images = random(*shaped(data_format, 2, 9, 8), dtype=ours.compute_dtype)
    ours.build(images.shape)
    ours.bias.assign(random(12))
    upstream = random(*ours.compute_output_shape(images.shape), dtype=ours.compute_dtype, seed=1)
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()
    found = step(ours, images, upstream, execution)
    for value, expected in zip(found, convolve_groups(ours, images, upstream), strict=True):
        assert relative_error(value, expected) <= TOLERANCE[dtype]


def convolve_groups(layer, images, upstream):
    """What `step` returns, of a convolution in float64 for each group, channels last."""
    order = (0, 1, 2, 3) if layer.data_format == "channels_last" else (0, 2, 3, 1)
    back = np.argsort(order)
    images, upstream = (tf.transpose(tf.cast(v, "float64"), order) for v in (images, upstream))
    kernel, bias = (
        tf.cast(tf.cast(v, layer.compute_dtype), "float64") for v in (layer.kernel, layer.bias)
    )
    with tf.GradientTape() as tape:
        tape.watch([images, kernel, bias])
        pairs = zip(tf.split(images, 4, axis=-1), tf.split(kernel, 4, axis=-1), strict=True)
        output = tf.concat([convolve(layer, *pair) for pair in pairs], -1) + bias
        loss = tf.reduce_sum(output * upstream)
    of_images, *others = tape.gradient(loss, [images, kernel, bias])
    return [tf.transpose(output, back), tf.transpose(of_images, back), *others]


def convolve(layer, images, kernel):
    """The sum of the products with each place of the kernel, of square images."""
    size, (stride, _), (dilation, _) = images.shape[1], layer.strides, layer.dilation_rate
    reach = (kernel.shape[0] - 1) * dilation + 1
    if layer.padding == "same":
        total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        around = [total // 2, total - total // 2]
        images = tf.pad(images, [[0, 0], around, around, [0, 0]])
    last = images.shape[1] - reach + 1
    places = [slice(i * dilation, i * dilation + last, stride) for i in range(kernel.shape[0])]
    return sum(
        images[:, rows, columns] @ kernel[i, j]
        for i, rows in enumerate(places)
        for j, columns in enumerate(places)
    )


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_grouped_convolution_has_keras_numbers(options):
    """Takes long, as Keras compiles its own: one dtype and layout."""
    images = random(2, 9, 9, 8)
    ours, theirs = (layer(**GROUPED, **options) for layer in (GroupedConv2D, keras.layers.Conv2D))
    for layer in (ours, theirs):
        layer.build(images.shape)
    ours.set_weights(theirs.get_weights())
    upstream = random(*theirs.compute_output_shape(images.shape), seed=1)
    for value, expected in zip(
        step(ours, images, upstream), step(theirs, images, upstream), strict=True
    ):
        assert relative_error(value, expected) <= TOLERANCE["float32"]


@each_way("mode", ["training", "inference", "frozen"])
def test_batch_normalization_has_keras_numbers(dtype, data_format, mode, execution):
    axis = -1 if data_format == "channels_last" else 1
    arguments = {"axis": axis, "momentum": 0.9, "epsilon": 1e-5, "dtype": dtype}
    ours, theirs = BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    images = 3 * random(*shaped(data_format, 3, 5, 6), dtype=ours.compute_dtype) + 1
    seed_gradient = random(*images.shape, dtype=ours.compute_dtype, seed=1)
    weights = np.random.default_rng(2).uniform(0.5, 2, size=(4, 6))
    for layer in (ours, theirs):
        layer.build(images.shape)
        layer.set_weights(weights)
        layer.trainable = mode != "frozen"
    training = mode != "inference"
    reference = step(theirs, images, seed_gradient, training=training)
    for value, expected in zip(
        step(ours, images, seed_gradient, execution, training=training), reference, strict=True
    ):
        assert relative_error(value, expected) <= TOLERANCE[dtype]
    if mode == "inference":  # not recorded, it is another operation
        outputs = tf.cast(ours(images), reference[0].dtype)
        assert relative_error(outputs, reference[0]) <= TOLERANCE[dtype]
    for value, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert relative_error(value, expected) <= TOLERANCE[dtype]


def test_batch_normalization_keeps_a_small_epsilon():
    """The variance of a nearly constant channel is far below epsilon, where 1e-5 and 1.001e-5
    differ visibly.
    """
    images = 1e-4 * random(4, 8, 8, 3)
    ours, theirs = (
        layer(epsilon=1e-5) for layer in (BatchNormalization, keras.layers.BatchNormalization)
    )
    assert relative_error(ours(images, training=True), theirs(images, training=True)) < 1e-5


KERAS_PATH = [{"scale": False}, {"center": False}, {"synchronized": True}, {"axis": 2}]
if "renorm" in inspect.signature(keras.layers.BatchNormalization).parameters:  # Keras 3.12: no
    KERAS_PATH.append({"renorm": True})


@pytest.mark.parametrize("arguments", KERAS_PATH, ids=str)
def test_batch_normalization_keeps_keras_path_for_the_rest(arguments):
    images = random(4, 6, 6, 6)
    ours, theirs = (
        layer(**arguments) for layer in (BatchNormalization, keras.layers.BatchNormalization)
    )
    assert relative_error(ours(images, training=True), theirs(images, training=True)) == 0
    for value, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_batch_normalization_with_a_mask_and_other_ranks():
    mask = np.arange(6)[None, :, None] < np.array([6, 4])[:, None, None]
    mask = np.broadcast_to(mask, (2, 6, 5))
    for images, call in (
        (random(2, 6, 5, 3), {"mask": mask}),
        (random(8, 3), {}),
        (random(2, 3, 4, 5, 3), {}),
    ):
        ours, theirs = (layer() for layer in (BatchNormalization, keras.layers.BatchNormalization))
        assert (
            relative_error(
                ours(images, training=True, **call), theirs(images, training=True, **call)
            )
            == 0
        )


def reference_gate(layer, images):
    """The gate in NumPy, channels last, float64."""
    images = np.asarray(images, "float64")
    if layer.squeeze is not None:
        images = {"avg": np.mean, "max": np.max}[layer.squeeze](images, axis=(1, 2), keepdims=True)
    weights = [np.asarray(w, "float64") for w in layer.get_weights()]
    bias = weights[1::2] if layer.use_bias else (0.0, 0.0)
    kernels = [w[0, 0] for w in (weights[::2] if layer.use_bias else weights)]
    hidden = np.maximum(images @ kernels[0] + bias[0], 0)
    return GATE_FORMULAS[layer.gate](hidden @ kernels[1] + bias[1])


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("squeeze", ["avg", "max", None])
def test_squeeze_excite_is_its_formula(squeeze, gate, use_bias, data_format):
    layer = SqueezeExcite(4, squeeze, gate, use_bias, data_format=data_format)
    images = random(2, 5, 7, 12)
    given = images if data_format == "channels_last" else tf.transpose(images, (0, 3, 1, 2))
    layer.build(given.shape)
    layer.set_weights([np.random.default_rng(5).normal(size=w.shape) for w in layer.get_weights()])
    expected = reference_gate(layer, images)
    gate_values, output = layer.excitation(given), layer(given)
    if data_format == "channels_first":
        gate_values, output = (tf.transpose(v, (0, 2, 3, 1)) for v in (gate_values, output))
    assert gate_values.shape == ((2, 1, 1, 12) if squeeze else (2, 5, 7, 12))
    assert relative_error(gate_values, expected) < 1e-6
    assert relative_error(output, images * expected) < 1e-6


class Gated:
    """Images -> (batch normalisation ->) an SE block, by its gradients for training or by those
    TensorFlow derives.
    """

    def __init__(self, normalize, gate, lean):
        self.normalize, self.gate, self.lean = normalize, gate, lean
        self.trainable_variables = [
            v for layer in (normalize, gate) if layer for v in layer.trainable_variables
        ]

    def __call__(self, images):
        x = self.normalize(images, training=True) if self.normalize else images
        return self.gate(x, training=self.lean)


@each_way(
    "before",
    ["nothing", "batch statistics", "frozen statistics"],
    dtypes=("float32", "float16", "mixed_bfloat16"),
    compiled=("float32", "mixed_bfloat16"),
)
def test_squeeze_excite_trains_by_the_gradients_that_tensorflow_derives(
    before, dtype, data_format, execution
):
    normalize, gate = None, SqueezeExcite(2, dtype=dtype, data_format=data_format)
    images = tf.cast(random(*shaped(data_format, 3, 6, 8)) * 2 + 1, gate.compute_dtype)
    gate.build(images.shape)
    if before != "nothing":
        normalize = BatchNormalization(
            axis=-1 if data_format == "channels_last" else 1, dtype=dtype
        )
        normalize.build(images.shape)
        normalize.set_weights([0.5 + np.random.default_rng(i).random(8) for i in range(4)])
        normalize.trainable = before == "batch statistics"
    upstream = random(*images.shape, seed=1)
    ours = step(Gated(normalize, gate, True), images, upstream, execution)
    derived = step(Gated(normalize, gate, False), images, upstream)
    assert len(ours) == len(derived) == (8 if before == "batch statistics" else 6)
    for mine, theirs in zip(ours, derived, strict=True):
        assert relative_error(mine, theirs) < 10 * TOLERANCE[dtype]


def read_backwards(function, shape, kind):
    """The names of the operations in the gradients of a function that read a tensor that operations
    of this kind output, but for its shape.
    """
    graph = tf.function(function).get_concrete_function(tf.TensorSpec(shape)).graph
    same = {out.name for op in graph.get_operations() if op.type == kind for out in op.outputs[:1]}
    assert same
    for op in graph.get_operations():  # and what is no more than another name for it
        if op.type in ("Identity", "IdentityN"):
            same |= {
                out.name for x, out in zip(op.inputs, op.outputs, strict=True) if x.name in same
            }
    readers = [op for op in graph.get_operations() if any(x.name in same for x in op.inputs)]
    return [
        op.name for op in readers if op.name.startswith("gradient_tape/") and "Shape" not in op.type
    ]


def test_training_does_not_keep_what_an_se_block_scales():
    """A gradient that read the output of batch normalisation would keep a fifth of SE-ResNet-50's
    activations.
    """
    images = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(16, 1, use_bias=False)(images)
    model = keras.Model(images, SqueezeExcite(4)(BatchNormalization()(x)))

    def gradients(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True) ** 2)
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    assert not read_backwards(gradients, (2, 8, 8, 4), "FusedBatchNormV3")


@pytest.mark.parametrize("training", [True, False])
def test_training_does_not_keep_what_frozen_batch_normalization_reads(training):
    """A third of the activations of a detector on ResNet-50, whose statistics are frozen."""
    images = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(16, 3, use_bias=False)(images)
    norm, last = BatchNormalization(), keras.layers.Conv2D(4, 1, use_bias=False)
    model = keras.Model(images, last(keras.layers.ReLU()(norm(x))))
    norm.trainable = False
    kernels = [v.value for v in model.trainable_variables]

    def gradients(images):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            loss = tf.reduce_sum(model(images, training=training))
        return tape.gradient(loss, kernels)

    assert len(kernels) == 2
    assert not read_backwards(gradients, (2, 8, 8, 4), "Conv2D")
    assert read_backwards(gradients, (2, 8, 8, 4), "Relu")  # the other kernel's needs that


@pytest.mark.parametrize(
    ("channels", "reduction", "width"),
    [(64, 16, 4), (216, 16, 13), (16, 16, 1), (8, 16, 1), (12, 1, 12)],
)
def test_squeeze_excite_width(channels, reduction, width):
    layer = SqueezeExcite(reduction)
    layer.build((None, None, None, channels))
    assert (layer.reduce.filters, layer.expand.filters) == (width, channels)


@each_way(
    "size",
    [56],
    dtypes=("mixed_float16", "mixed_bfloat16", "float16", "float64"),
    compiled=("mixed_float16", "float16", "mixed_bfloat16"),
)
def test_squeeze_excite_survives_large_magnitudes(size, dtype, data_format, execution):
    """Sums over 56 x 56 values of 6e4 leave float16's range; the gate must not."""
    if dtype == "float64" and (data_format == "channels_first" or execution != "eager"):
        pytest.skip("TensorFlow has no channels_first float64 convolution on a CPU")
    layer = SqueezeExcite(2, dtype=dtype, data_format=data_format)
    images = tf.cast(6e4 * tf.sign(random(*shaped(data_format, 2, size, 8))), layer.compute_dtype)
    layer.build(images.shape)
    output, *gradients = step(layer, images, 1e-3 * tf.ones_like(images), execution)
    assert layer(images).dtype == layer.compute_dtype
    assert all(np.isfinite(v).all() for v in (output, *gradients))
    gate = layer.excitation(images)
    assert (
        relative_error(
            output, np.asarray(tf.cast(images, "float64")) * np.asarray(tf.cast(gate, "float64"))
        )
        < 1e-2
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"reduction": 0}, "reduction=0"),
        ({"reduction": 1.5}, "reduction=1.5"),
        ({"reduction": 10**23}, "from 1 to 2147483647.*reduction=1"),
        ({"use_bias": "no"}, "use_bias='no'"),
        ({"reduction": True}, "reduction=True"),
        ({"squeeze": "mean"}, "squeeze='mean'"),
        ({"gate": "softmax"}, "gate='softmax'"),
        ({"data_format": "NHWC"}, "data_format='NHWC'"),
    ],
)
def test_squeeze_excite_names_a_wrong_argument(arguments, named):
    with pytest.raises(ValueError, match=named):
        SqueezeExcite(**arguments)


def test_the_excitation_of_a_layer_that_was_not_called():
    images = random(2, 4, 4, 8)
    layer = SqueezeExcite(2)
    gate = layer.excitation(images)
    np.testing.assert_allclose(layer(images), images * gate, rtol=1e-6)


def test_batch_normalization_of_an_unknown_shape():
    layer, images = BatchNormalization(), random(2, 3, 3, 6)
    layer.build(images.shape)
    run = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None,) * 4)]
    )
    theirs = keras.layers.BatchNormalization()
    assert relative_error(run(images), theirs(images, training=True)) < 1e-5
    assert relative_error(layer.moving_variance, theirs.moving_variance) < 1e-5


def test_squeeze_excite_names_a_wrong_input():
    with pytest.raises(ValueError, match="expected ndim=4"):
        SqueezeExcite()(np.ones((2, 8)))
    with pytest.raises(ValueError, match="known number of channels"):
        SqueezeExcite()(keras.Input((8, 8, None)))


@pytest.mark.parametrize("data_format", FORMATS)
def test_a_model_of_the_layers_round_trips(tmp_path, data_format):
    images = keras.Input(shaped(data_format, 1, 8, 8)[1:])
    x = GroupedConv2D(8, 3, groups=4, data_format=data_format)(images)
    x = BatchNormalization(axis=-1 if data_format == "channels_last" else 1)(x)
    model = keras.Model(
        images, SqueezeExcite(2, "max", "tanh", use_bias=False, data_format=data_format)(x)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    batch = random(*shaped(data_format, 2, 8, 8))
    np.testing.assert_array_equal(loaded(batch), model(batch))
    assert [layer.get_config() for layer in loaded.layers] == [
        layer.get_config() for layer in model.layers
    ]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("SqueezeExcite", {"reduction": 4}),
        ("GroupedConv2D", {"filters": 8, "kernel_size": 3}),
        ("BatchNormalization", {}),
        ("ShakeShake", {}),
        ("PadChannels", {"channels": 8}),
        ("ShuffleChannels", {"groups": 2}),
    ],
)
def test_saved_models_name_the_layers_so(name, config):
    """As every `.keras` file that this package has written does."""
    saved = {
        "module": "keras_senet.layers",
        "class_name": name,
        "registered_name": f"keras_senet>{name}",
    }
    layer = keras.saving.deserialize_keras_object(saved | {"config": config})
    assert type(layer).__name__ == name
    written = keras.saving.serialize_keras_object(layer)
    assert (written["class_name"], written["registered_name"]) == (name, f"keras_senet>{name}")


def run_without_onednn():
    """All of this in the process that test_launcher.py starts without oneDNN; pytest's exit status.
    XLA's kernels are not oneDNN's in any case, a graph's are those of eager execution, and a policy
    of mixed precision computes in a dtype that is among the others.
    """
    kinds = "grouped or batch_normalization or (trains and statistics) or magnitudes"
    chosen = ("-k", f"({kinds}) and not xla and not graph and not mixed", __file__)
    return pytest.main(["-q", "-x", "-n0", "-p", "no:cacheprovider", *chosen])
