"""First and second derivatives in training, against their formulas in float64, wherever a gradient
may be taken.

The formulas are TensorFlow's plain operations. Keras' own layers are no reference for second
derivatives: Keras takes moments by `tf.nn.moments`, which stops the gradient from the variance to
the mean (see the finite differences below).
"""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_senet.layers import BatchNormalization, GroupedConv2D, SqueezeExcite, grouped_conv
from keras_senet.layers.recompute import differentiate

CHANNELS = 6
TOLERANCE = {
    "float32": 5e-6,
    "mixed_float16": 1e-2,
    "mixed_bfloat16": 6e-2,
}  # the largest error over the largest value


class Network:
    """Images (N, H, W, 6) -> the same shape by batch normalisation and an SE block, or their
    formulas.
    """

    def __init__(
        self,
        normalization="batch statistics",
        dtype="float32",
        squeeze="avg",
        data_format="channels_last",
    ):
        random = np.random.default_rng(0)
        self.is_last = data_format == "channels_last"
        self.norm = BatchNormalization(axis=-1 if self.is_last else 1, dtype=dtype)
        self.gate = SqueezeExcite(2, squeeze, dtype=dtype, data_format=data_format)
        self.norm.trainable = normalization == "batch statistics"
        for layer in (self.norm, self.gate):
            layer.build(
                (None, None, None, CHANNELS) if self.is_last else (None, CHANNELS, None, None)
            )
            layer.built = True
            low = (
                0.5 if layer is self.norm else -1.5
            )  # a gate of positive weights only is 1 everywhere
            # Of eighths, which float16 and bfloat16 have, so that only the arithmetic rounds.
            layer.set_weights(
                [np.round(8 * random.uniform(low, 1.5, w.shape)) / 8 for w in layer.get_weights()]
            )
        self.variables = [self.norm.gamma, self.norm.beta, *self.gate.trainable_variables]

    def __call__(self, x):
        x = x if self.is_last else tf.transpose(x, (0, 3, 1, 2))
        x = self.gate(self.norm(tf.cast(x, self.norm.compute_dtype), training=True), training=True)
        return tf.cast(x if self.is_last else tf.transpose(x, (0, 2, 3, 1)), "float32")

    def values(self):
        """The layers' variables, float64, in the order of `variables`, then the moving mean and
        variance.
        """
        weights = [*self.variables, self.norm.moving_mean, self.norm.moving_variance]
        return [tf.constant(w.numpy(), "float64") for w in weights]

    def formula(self, x, values):
        gamma, beta, k1, b1, k2, b2, mean, variance = values
        if self.norm.trainable:
            mean = tf.reduce_mean(x, (0, 1, 2))
            variance = tf.reduce_mean((x - mean) ** 2, (0, 1, 2))
        y = (x - mean) / tf.sqrt(variance + self.norm.epsilon) * gamma + beta
        squeezed = {"avg": tf.reduce_mean, "max": tf.reduce_max}[self.gate.squeeze](
            y, (1, 2), keepdims=True
        )
        return y * tf.sigmoid(tf.nn.relu(squeezed @ k1[0] + b1) @ k2[0] + b2)


def images(*shape, seed=1):
    return np.round(8 * np.random.default_rng(seed).normal(size=shape)) / 8


def loss(y, upstream):
    return tf.reduce_sum(tf.tanh(y) * tf.cast(upstream, y.dtype))


def first(f, x, variables):
    """Gradients of the loss of f(x) by the variables and x."""
    with tf.GradientTape() as tape:
        tape.watch([x, *variables])
        value = f(x)
    return tape.gradient(value, [*variables, x])


def penalty(f, x, variables):
    """Gradients of a penalty on the gradient by x: a second tape around the first."""
    with tf.GradientTape() as outer:
        outer.watch([x, *variables])
        value = tf.reduce_sum(first(f, x, [])[0] ** 2)
    return outer.gradient(value, [*variables, x])


def hessian_by_forward(f, x, variables):
    """The Hessian's product with a vector, forward over reverse."""
    with tf.autodiff.ForwardAccumulator(
        x, tf.cast(images(*x.shape, seed=4), x.dtype)
    ) as accumulator:
        gradients = first(f, x, variables)
    return [accumulator.jvp(g) for g in gradients]


ORDERS = {"first": first, "penalty": penalty, "forward over reverse": hessian_by_forward}

# Ways to call a function of images.
WAYS = {
    "plain": lambda f, x: f(x),
    "siamese": lambda f, x: f(x) - f(2 * x[::-1] + 1),
    "twice": lambda f, x: f(f(x)),
    "function": lambda f, x: tf.function(f, autograph=False)(x),
    "xla": lambda f, x: tf.function(f, autograph=False, jit_compile=True)(x),
    "recompute_grad": lambda f, x: tf.recompute_grad(lambda x: f(x))(x),
    "map_fn": lambda f, x: tf.map_fn(f, tf.stack([x, 2 * x]))[1],
    "while_loop": lambda f, x: tf.while_loop(
        lambda i, _: i < 2, lambda i, y: (i + 1, f(y)), (0, x), maximum_iterations=2
    )[1],
    "cond": lambda f, x: tf.cond(tf.reduce_sum(x**2) > 0, lambda: f(x), lambda: x),
}


def check(found, expected, tolerance):
    assert len(found) == len(expected)
    for value, right in zip(found, expected, strict=True):
        value, right = np.asarray(tf.cast(value, "float64")), np.asarray(right)
        assert np.abs(value - right).max() <= tolerance * np.abs(right).max()


def compare(network, x, order, way=WAYS["plain"], run=lambda f: f, dtype="float32", expected=None):
    """Derivatives of the network against those of its formula, in float64."""
    upstream, values = tf.constant(images(*x.shape, seed=2)), network.values()
    variables = [v.value for v in network.variables]
    found = run(lambda x: ORDERS[order](lambda x: loss(way(network, x), upstream), x, variables))(
        tf.constant(x, "float32")
    )
    by_formula = expected or way

    def formula(x):
        return loss(by_formula(lambda x: network.formula(x, values), x), upstream)

    check(found, ORDERS[order](formula, tf.constant(x), values[:6]), TOLERANCE[dtype])


RUNS = {
    "eager": lambda f: f,
    "graph": lambda f: tf.function(f, autograph=False),
    "xla": lambda f: tf.function(f, autograph=False, jit_compile=True),
}


@pytest.mark.parametrize("run", ["eager", "graph"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("normalization", ["batch statistics", "frozen statistics"])
def test_derivatives_in_training_are_those_of_the_formula(normalization, order, run):
    compare(Network(normalization), images(2, 4, 4, CHANNELS), order, run=RUNS[run])


@pytest.mark.parametrize("order", ["first", "penalty"])
def test_derivatives_of_one_image_under_xla(order):
    compare(Network(), images(1, 3, 5, CHANNELS), order, run=RUNS["xla"])


@pytest.mark.parametrize("order", ["first", "penalty"])
@pytest.mark.parametrize("way", ["siamese", "twice", "map_fn", "while_loop", "function", "cond"])
def test_derivatives_through_calls_and_control_flow(way, order):
    same = way in ("function", "cond")
    compare(
        Network(),
        images(2, 4, 4, CHANNELS),
        order,
        WAYS[way],
        expected=WAYS["plain" if same else way],
    )


@pytest.mark.parametrize("way", ["map_fn", "while_loop", "cond"])
def test_gradients_through_control_flow_within_a_graph(way):
    """The tape is outside the loop or branch, whose images are tensors of the graph around it."""
    expected = WAYS["plain" if way == "cond" else way]
    compare(
        Network(), images(2, 4, 4, CHANNELS), "first", WAYS[way], RUNS["graph"], expected=expected
    )


def test_second_derivatives_through_cond_within_a_graph_raise():
    """As for every custom gradient of TensorFlow: they are not silently wrong."""
    with pytest.raises(AssertionError):
        compare(
            Network(),
            images(2, 4, 4, CHANNELS),
            "penalty",
            WAYS["cond"],
            RUNS["graph"],
            expected=WAYS["plain"],
        )


@pytest.mark.parametrize("run", ["eager", "graph"])
def test_gradients_where_the_forward_pass_runs_again(run):
    compare(
        Network(),
        images(2, 4, 4, CHANNELS),
        "first",
        WAYS["recompute_grad"],
        RUNS[run],
        expected=WAYS["plain"],
    )


@pytest.mark.parametrize("order", ["first", "penalty"])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_derivatives_in_mixed_precision(dtype, order):
    compare(Network(dtype=dtype), images(2, 4, 4, CHANNELS), order, dtype=dtype)


@pytest.mark.parametrize("order", ["first", "penalty"])
def test_derivatives_with_a_maximum_for_a_squeeze(order):
    compare(Network(squeeze="max"), images(2, 4, 4, CHANNELS), order)


@pytest.mark.parametrize("order", ["first", "penalty"])
@pytest.mark.skipif(
    os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0", reason="channels_first needs oneDNN on a CPU"
)
def test_derivatives_with_channels_first(order):
    compare(Network(data_format="channels_first"), images(2, 4, 4, CHANNELS), order)


@pytest.mark.parametrize("normalization", ["batch statistics", "frozen statistics"])
def test_weights_may_change_before_the_backward_pass(normalization):
    """As they do where several losses share a persistent tape, each with an optimizer step."""
    network, x = Network(normalization), tf.constant(images(2, 4, 4, CHANNELS), "float32")
    upstream, values = tf.constant(images(2, 4, 4, CHANNELS, seed=2)), network.values()
    variables = [v.value for v in network.variables]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, *variables])
        value = loss(network(x), upstream)
    expected = first(
        lambda x: loss(network.formula(x, values), upstream), tf.cast(x, "float64"), values[:6]
    )
    for factor in (1.0, 3.0, -2.0):
        for variable in [
            *network.variables,
            network.norm.moving_mean,
            network.norm.moving_variance,
        ]:
            variable.assign(variable * factor)
        check(tape.gradient(value, [*variables, x]), expected, TOLERANCE["float32"])


def exact_normalization(x, epsilon=1e-3):
    mean = tf.reduce_mean(x, (0, 1, 2))
    variance = tf.reduce_mean((x - mean) ** 2, (0, 1, 2))
    return (x - mean) / tf.sqrt(variance + epsilon)


def test_the_formula_is_right_by_finite_differences():
    """And Keras' own second derivatives, which are no reference here, are not."""
    x, v = (tf.constant(images(2, 2, 2, 3, seed=s), "float64") for s in (1, 2))
    keras_layer = keras.layers.BatchNormalization(dtype="float64")
    h = 1e-5
    functions = (exact_normalization, lambda x: keras_layer(x, training=True))

    def penalty_of(f, x):
        return first(lambda x: loss(f(x), images(2, 2, 2, 3, seed=3)), x, [])[0]

    right = (
        penalty_of(exact_normalization, x + h * v) - penalty_of(exact_normalization, x - h * v)
    ) / (2 * h)
    found = []
    for f in functions:
        with tf.GradientTape() as tape:
            tape.watch(x)
            product = tf.reduce_sum(penalty_of(f, x) * v)
        found.append(
            float(tf.reduce_max(abs(tape.gradient(product, x) - right)) / tf.reduce_max(abs(right)))
        )
    assert found[0] < 1e-6
    assert found[1] > 1e-3


@pytest.mark.parametrize(
    "arguments", [{}, {"dtype": "float64"}, {"scale": False}, {"center": False}], ids=str
)
def test_second_derivatives_of_batch_normalization(arguments):
    """By the fused operation, and by Keras' path for what that does not serve."""
    layer, x = BatchNormalization(**arguments), images(2, 3, 3, 4)
    upstream = images(*x.shape, seed=2)
    found = penalty(
        lambda x: loss(layer(x, training=True), upstream), tf.constant(x, layer.compute_dtype), []
    )
    expected = penalty(lambda x: loss(exact_normalization(x), upstream), tf.constant(x), [])
    check(found, expected, TOLERANCE["float32"])


@pytest.mark.parametrize("path", ["grouped", "by group"])
@pytest.mark.parametrize("options", [{}, {"strides": 2, "padding": "same"}], ids=str)
def test_second_derivatives_of_a_grouped_convolution(options, path, monkeypatch):
    """Against a dense convolution in float64 for each group."""
    if path == "by group":
        monkeypatch.setattr(
            grouped_conv, "_can_differentiate", lambda groups, dtype, **properties: groups == 1
        )
    layer, x = GroupedConv2D(6, 3, groups=2, use_bias=False, **options), images(2, 5, 5, 4)
    layer.build(x.shape)
    kernel = layer.kernel.value
    upstream = images(*layer.compute_output_shape(x.shape), seed=2)

    def formula(x, kernel):
        strides, padding = options.get("strides", 1), options.get("padding", "valid").upper()
        pairs = zip(tf.split(x, 2, axis=-1), tf.split(kernel, 2, axis=-1), strict=True)
        return loss(
            tf.concat([tf.nn.conv2d(*pair, strides, padding) for pair in pairs], -1), upstream
        )

    k64 = tf.cast(kernel, "float64")
    found = penalty(lambda x: loss(layer(x), upstream), tf.constant(x, "float32"), [kernel])
    check(found, penalty(lambda x: formula(x, k64), tf.constant(x), [k64]), TOLERANCE["float32"])


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
def test_the_gradient_by_a_kernel_does_not_wait_for_those_below(kind):
    """Else all that it reads is kept until then."""
    sizes = {"Conv2D": (4, 3), "DepthwiseConv2D": (3,)}[kind]
    layer, below = getattr(keras.layers, kind)(*sizes), keras.layers.Conv2D(4, 1)
    x = tf.constant(images(2, 5, 5, 4), "float32")
    layer(below(x))
    variables = [v.value for v in (*below.variables, *layer.variables)]

    def gradients(x, by):
        with tf.GradientTape() as tape:
            tape.watch(variables)
            value = tf.reduce_sum(layer(below(x)) ** 2)
        return by(tape, value, variables)

    ordered = tf.function(lambda x: gradients(x, differentiate))
    graph = ordered.get_concrete_function(x).graph
    by_images = [op for op in graph.get_operations() if op.type.endswith("BackpropInput")]
    assert by_images
    for operation in by_images:
        (before,) = operation.control_inputs
        assert before.type == operation.type.replace("Input", "Filter")
        assert before.inputs[2].name == operation.inputs[2].name
    check(ordered(x), gradients(x, tf.GradientTape.gradient), 1e-6)
    check(gradients(x, differentiate), ordered(x), 1e-6)
