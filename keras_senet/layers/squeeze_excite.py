"""SqueezeExcite: the layer that the package is about."""

import functools

import keras
from keras import ops

from keras_senet.layers.data_format import resolve_data_format
from keras_senet.se import check_excitation

SQUEEZES = {"avg": ops.mean, "max": ops.max, None: None}


@keras.saving.register_keras_serializable("keras_senet")
class SqueezeExcite(keras.layers.Layer):
    """Features, each channel rescaled by a gate that depends on all of them: (N, H, W, C) -> the
    same shape.

    `x * gate(expand(relu(reduce(squeeze(x)))))`, where `reduce` and `expand` are 1x1 convolutions
    to `max(1, C // reduction)` and back to C channels. Under a half-precision policy the gate is
    computed in float32: a mean over H x W and a sum over C channels leave float16's range, and the
    gate is a small part of the work. In training its gradients are custom ones on TensorFlow, which
    in a graph raises AssertionError for second derivatives of such through `tf.cond`.

    Args:
        reduction: the paper's r, an integer of at least 1.
        squeeze: "avg", "max", or None: no pooling, the gate keeps H x W (the paper's NoSqueeze,
            Table 16).
        gate: "sigmoid", "tanh" or "relu" (Table 12).
        use_bias: whether the two convolutions have biases; the released networks do, the ablations
            (Section 6) do not.
        data_format: "channels_last" or "channels_first"; None takes
            `keras.config.image_data_format()`.

    Raises:
        ValueError: for any other argument, or an input that is not four-dimensional with a known
            number of channels.

    Source: Hu et al., arXiv 1709.01507, Sections 3.1 and 3.2; biases as in the authors' prototxts.
    """

    def __init__(
        self,
        reduction=16,
        squeeze="avg",
        gate="sigmoid",
        use_bias=True,
        *,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_excitation(reduction, squeeze, gate, use_bias)
        self.reduction = int(reduction)
        self.squeeze = squeeze
        self.gate = gate
        self.use_bias = use_bias
        self.data_format = resolve_data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channel_axis = -1 if self.data_format == "channels_last" else 1
        channels = input_shape[channel_axis]
        if channels is None:
            raise ValueError(
                f"`{self.name}` needs a known number of channels. "
                f"Received: input_shape={input_shape}"
            )
        width = max(1, channels // self.reduction)
        conv = functools.partial(
            keras.layers.Conv2D,
            kernel_size=1,
            use_bias=self.use_bias,
            kernel_initializer="he_normal",
            data_format=self.data_format,
            dtype="float32" if self.compute_dtype in ("float16", "bfloat16") else self.dtype_policy,
        )
        self.reduce = conv(width, activation="relu", name=f"{self.name}_reduce")
        self.expand = conv(channels, activation=self.gate, name=f"{self.name}_expand")
        self.reduce.build(input_shape)
        self.expand.build(self.reduce.compute_output_shape(input_shape))
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={channel_axis: channels})

    def pool(self, x):
        """Only the squeeze: (N, 1, 1, C), or x itself without one."""
        x = ops.cast(x, self.reduce.compute_dtype)
        if self.squeeze is None:
            return x
        return SQUEEZES[self.squeeze](x, axis=self._spatial_axes, keepdims=True)

    @property
    def _spatial_axes(self):
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def excitation(self, x):
        """Only the gate: (N, 1, 1, C), or (N, H, W, C) without a squeeze; 0..1 for a sigmoid."""
        if not self.built:
            self.build(x.shape)
            self.built = True
        return ops.cast(self.expand(self.reduce(self.pool(x))), self.compute_dtype)

    def call(self, x, training=None):
        if training and self.squeeze == "avg" and keras.backend.backend() == "tensorflow":
            return self._call_to_train(x)
        return x * self.excitation(x)

    def _call_to_train(self, x):
        """The same with gradients that take less memory and time."""
        from keras_senet.layers.recompute import scale_by, split_mean

        same, mean = split_mean(x, self._spatial_axes, self.reduce.compute_dtype)
        return scale_by(
            same, ops.cast(self.expand(self.reduce(mean)), self.compute_dtype), origin=x
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = ("reduction", "squeeze", "gate", "use_bias", "data_format")
        return super().get_config() | {name: getattr(self, name) for name in own}
