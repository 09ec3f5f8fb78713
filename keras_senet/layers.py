"""SqueezeExcite, drop-in layers for what Keras computes slowly on TensorFlow, and what single families need."""

import functools

import keras
from keras import ops

from keras_senet.cpu import has_avx512, uses_onednn
from keras_senet.fields import is_integer

register = keras.saving.register_keras_serializable(package="keras_senet")

SQUEEZES = {"avg": ops.mean, "max": ops.max, None: None}
GATES = ("sigmoid", "tanh", "relu")


def check_excitation(reduction, squeeze, gate):
    """Raises ValueError for what `SqueezeExcite` does not take."""
    if not is_integer(reduction) or reduction < 1:
        raise ValueError(f"`reduction` must be an integer of at least 1. Received: reduction={reduction!r}")
    if squeeze not in list(SQUEEZES):
        raise ValueError(f"`squeeze` must be one of {list(SQUEEZES)}. Received: squeeze={squeeze!r}")
    if gate not in GATES:
        raise ValueError(f"`gate` must be one of {list(GATES)}. Received: gate={gate!r}")


def checked_data_format(data_format):
    """The data format, or Keras' own for None. Raises ValueError for another."""
    if data_format is None:
        return keras.config.image_data_format()
    if data_format not in _TF_FORMATS:
        raise ValueError(f"`data_format` must be one of {list(_TF_FORMATS)}. Received: data_format={data_format!r}")
    return data_format


@register
class SqueezeExcite(keras.layers.Layer):
    """images' features, each channel rescaled by a gate that depends on all of them: (N, H, W, C) -> the same shape.

    `x * gate(expand(relu(reduce(squeeze(x)))))`, where `reduce` and `expand` are 1x1 convolutions to
    `max(1, C // reduction)` and back to C channels. Under a half-precision policy the gate is computed in float32:
    a mean over H x W and a sum over C channels leave float16's range, and the gate is a small part of the work.

    Args:
        reduction: the paper's r, an integer of at least 1.
        squeeze: "avg", "max", or None: no pooling, the gate keeps H x W (the paper's NoSqueeze, Table 16).
        gate: "sigmoid", "tanh" or "relu" (Table 12).
        use_bias: whether the two convolutions have biases; the released networks do, the ablations (Section 6) do not.
        data_format: "channels_last" or "channels_first"; None takes `keras.config.image_data_format()`.

    Raises:
        ValueError: for any other argument, or an input that is not four-dimensional with a known number of channels.

    Source: Hu et al., arXiv 1709.01507, Sections 3.1 and 3.2; biases as in the authors' prototxts.
    """

    def __init__(self, reduction=16, squeeze="avg", gate="sigmoid", use_bias=True, *, data_format=None, **kwargs):
        super().__init__(**kwargs)
        check_excitation(reduction, squeeze, gate)
        self.reduction = int(reduction)
        self.squeeze = squeeze
        self.gate = gate
        self.use_bias = use_bias
        self.data_format = checked_data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channel_axis = -1 if self.data_format == "channels_last" else 1
        channels = input_shape[channel_axis]
        if channels is None:
            raise ValueError(f"`{self.name}` needs a known number of channels. Received: input_shape={input_shape}")
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
        """The squeeze alone: (N, 1, 1, C), or x itself without one."""
        x = ops.cast(x, self.reduce.compute_dtype)
        if self.squeeze is None:
            return x
        return SQUEEZES[self.squeeze](x, axis=self._spatial_axes, keepdims=True)

    @property
    def _spatial_axes(self):
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def excitation(self, x):
        """The gate alone: (N, 1, 1, C), or (N, H, W, C) without a squeeze; 0..1 for a sigmoid."""
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
        from keras_senet.gradients import scaled, with_mean

        same, mean = with_mean(x, self._spatial_axes, self.reduce.compute_dtype)
        return scaled(same, ops.cast(self.expand(self.reduce(mean)), self.compute_dtype), origin=x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = ("reduction", "squeeze", "gate", "use_bias", "data_format")
        return super().get_config() | {name: getattr(self, name) for name in own}


@register
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose groups are fast on TensorFlow: same arguments, variables, configuration and numbers.

    Keras compiles each grouped convolution with XLA, because TensorFlow's kernels for a CPU do not cover every case.
    Here TensorFlow's kernel is used where it can also compute the gradients; else one convolution a group where
    that can; else Keras' own path. Other backends are Keras' own path.
    """

    def convolution_op(self, inputs, kernel):
        if self.groups == 1 or keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        properties = {"data_format": self.data_format, "dilated": max(self.dilation_rate) > 1}
        if (dtype != "float16" or _has_gpu()) and _can_differentiate(self.groups, dtype, **properties):
            return self._convolve(inputs, kernel)
        # Without oneDNN a CPU sums half-precision products in half precision: compute in float32 and round once.
        compute = "float64" if dtype == "float64" else "float32"
        inputs, kernel = ops.cast(inputs, compute), ops.cast(kernel, compute)
        if _can_differentiate(self.groups, compute, **properties):
            outputs = self._convolve(inputs, kernel)
        elif _can_differentiate(1, compute, **properties):
            outputs = self._convolve_by_group(inputs, kernel)
        else:
            outputs = super().convolution_op(inputs, kernel)
        return ops.cast(outputs, dtype)

    def _convolve(self, inputs, kernel):
        import tensorflow as tf

        return tf.nn.conv2d(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding.upper(),
            data_format=_TF_FORMATS[self.data_format],
            dilations=self.dilation_rate,
        )

    def _convolve_by_group(self, inputs, kernel):
        import tensorflow as tf

        channel_axis = -1 if self.data_format == "channels_last" else 1
        pairs = zip(
            tf.split(inputs, self.groups, axis=channel_axis), tf.split(kernel, self.groups, axis=-1), strict=True
        )
        return tf.concat([self._convolve(x, k) for x, k in pairs], axis=channel_axis)


_TF_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}


@functools.cache
def _has_gpu():
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


@functools.cache
def _can_differentiate(groups, dtype, data_format, dilated):
    """Whether TensorFlow computes a convolution with these properties, and its gradient, on this machine's device.

    Asked of the kernels themselves: which there are depends on the device, on oneDNN, and on the CPU.
    """
    import tensorflow as tf

    dilation = 2 if dilated else 1
    dilations = (1, dilation, dilation, 1) if data_format == "channels_last" else (1, 1, dilation, dilation)
    with tf.init_scope():  # run at once, also while a graph is being traced
        channels = 2 * groups
        images = tf.ones((1, 4, 4, channels) if data_format == "channels_last" else (1, channels, 4, 4), dtype)
        kernel = tf.ones((3, 3, channels // groups, channels), dtype)
        conv = {
            "strides": (1, 1, 1, 1),
            "padding": "SAME",
            "data_format": _TF_FORMATS[data_format],
            "dilations": dilations,
        }
        try:
            tf.raw_ops.Conv2D(input=images, filter=kernel, **conv)
            tf.raw_ops.Conv2DBackpropInput(input_sizes=images.shape, filter=kernel, out_backprop=images, **conv)
            tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=kernel.shape, out_backprop=images, **conv)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError):
            return False
    return True


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` by TensorFlow's fused operation: same arguments, variables and numbers.

    Keras computes moments, then an affine map, in separate operations. The fused one is faster, and the only one
    that TensorFlow and TFLite fold into a convolution. It serves what these networks use (rank 4, over the
    channels, centred and scaled, float16, bfloat16 or float32); anything else, and other backends, is Keras' own path.
    On TensorFlow second derivatives in training are exact, where Keras leaves a part of them out. Forward over
    reverse is too, unless the layer is within a `tf.function` and the accumulator outside: TensorFlow gets that wrong.
    """

    def call(self, inputs, training=None, mask=None):
        if mask is not None or not self._is_fusible(inputs):
            return super().call(inputs, training=training, mask=mask)
        # Read here, and only here: when a backward pass runs, they may have changed.
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        if training and self.trainable:
            outputs, mean, variance = self._fused(inputs, gamma, beta)
            mean, variance = self._with_gradients(inputs, mean, self._biased(variance, inputs))
            self._update_moving_statistics(mean, variance)
        else:
            mean, variance = ops.cast(self.moving_mean, "float32"), ops.cast(self.moving_variance, "float32")
            if training or _is_fused_slowly():
                outputs = self._affine(inputs, gamma, beta, mean, variance)
            else:
                outputs, _, _ = self._fused(inputs, gamma, beta, mean, variance)
        outputs = ops.cast(outputs, self.compute_dtype)
        if not training:
            return outputs
        from keras_senet.gradients import tag_recompute

        # An SE block that follows need not keep the outputs for its gradient.
        return tag_recompute(outputs, self._affine, inputs, gamma, beta, mean, variance)

    def _is_fusible(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (1, -1, 3)
            and self.center
            and self.scale
            and not self.synchronized
            and not getattr(self, "renorm", False)  # older Keras has none
            and keras.backend.standardize_dtype(inputs.dtype) in ("float16", "bfloat16", "float32")
        )

    def _fused(self, inputs, gamma, beta, mean=(), variance=()):
        """(outputs, mean, variance), by the batch's statistics unless others are given."""
        import tensorflow as tf

        # tf.compat.v1.nn.fused_batch_norm would raise epsilon to 1.001e-5, which cuDNN no longer asks for.
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            data_format="NCHW" if self.axis == 1 else "NHWC",
            is_training=isinstance(mean, tuple),
        )[:3]

    def _affine(self, inputs, gamma, beta, mean, variance):
        """The outputs by given statistics and plain operations."""
        scale = gamma * ops.rsqrt(variance + self.epsilon)
        shift = beta - mean * scale
        shape = (1, -1, 1, 1) if self.axis == 1 else (1, 1, 1, -1)
        outputs = ops.cast(inputs, "float32") * ops.reshape(scale, shape) + ops.reshape(shift, shape)
        return ops.cast(outputs, self.compute_dtype)

    def _biased(self, variance, inputs):
        """The variance that Keras averages, from that of the fused operation, which is Bessel-corrected."""
        import tensorflow as tf

        count = tf.cast(tf.size(inputs, out_type=tf.int64) // self.moving_mean.shape[0], "float32")
        return variance * (count - 1.0) / count

    def _update_moving_statistics(self, mean, variance):
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(ops.cast(moving, "float32") * self.momentum + batch * (1.0 - self.momentum))

    def _moments(self, inputs, mask):
        mean, variance = super()._moments(inputs, mask)
        if mask is not None or self.synchronized or keras.backend.backend() != "tensorflow":
            return mean, variance
        return self._with_gradients(inputs, mean, variance)

    def _with_gradients(self, inputs, mean, variance):
        """The batch's mean and variance as functions of the inputs, with all of their gradient."""
        from keras_senet.gradients import with_moments

        axes = [axis for axis in range(len(inputs.shape)) if axis != self.axis % len(inputs.shape)]
        return with_moments(inputs, mean, variance, axes)


@functools.cache
def _is_fused_slowly():
    """Whether this machine should not run a convolution and batch normalisation as one operation, in inference.

    TensorFlow makes one of them where it finds both. For a batch of 1, oneDNN has fast code for it only where the CPU
    has AVX-512: with AVX2 it takes 15 times the time of both, for which all larger batches give up 1 or 2%.
    """
    return uses_onednn() and not _has_gpu() and not has_avx512()


@register
class ShakeShake(keras.layers.Layer):
    """Two equal tensors -> one, (N, H, W, C): alpha * a + (1 - alpha) * b with a random alpha for each image.

    In training alpha is uniform in 0..1, and the gradients are mixed by another, independent coefficient. In
    inference it is 0.5.

    Args:
        forward: whether alpha is random in training; else 0.5.
        backward: whether the gradients' coefficient is random; else 0.5 ("Shake-Even").
        seed: an integer, or None for a random one.

    Source: Gastaldi, arXiv 1705.07485, at the level of images.
    """

    def __init__(self, forward=True, backward=True, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.random_forward = forward  # `forward` is what torch calls on its backend
        self.random_backward = backward
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=None):
        a, b = inputs
        if not training:
            return 0.5 * (a + b)
        alpha, beta = (self._coefficients(a, is_random) for is_random in (self.random_forward, self.random_backward))
        # The second term is what alpha changes; no gradient goes through it, so that the gradients' mixture is beta's.
        return beta * a + (1 - beta) * b + ops.stop_gradient((alpha - beta) * (a - b))

    def _coefficients(self, x, is_random):
        shape = (ops.shape(x)[0], 1, 1, 1)
        if not is_random:
            return ops.full(shape, 0.5, x.dtype)
        return ops.cast(keras.random.uniform(shape, seed=self.seed_generator, dtype="float32"), x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return super().get_config() | {
            "forward": self.random_forward,
            "backward": self.random_backward,
            "seed": self.seed,
        }


class ChannelLayer(keras.layers.Layer):
    """A layer that rearranges channels, whose place is that of its `data_format`."""

    def __init__(self, *, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = checked_data_format(data_format)
        self.channel_axis = 3 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def get_config(self):
        return super().get_config() | {"data_format": self.data_format}


@register
class PadChannels(ChannelLayer):
    """(N, H, W, C) -> (N, H, W, channels): zeros behind the channels of the input."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, x):
        missing = self.channels - x.shape[self.channel_axis]
        return ops.pad(x, [(0, missing if axis == self.channel_axis else 0) for axis in range(4)])

    def compute_output_shape(self, input_shape):
        return tuple(self.channels if axis == self.channel_axis else n for axis, n in enumerate(input_shape))

    def get_config(self):
        return super().get_config() | {"channels": self.channels}


@register
class ShuffleChannels(ChannelLayer):
    """(N, H, W, C) -> the same shape: channel i of group g becomes channel g of group i.

    Source: Zhang et al., arXiv 1707.01083, Figure 1.
    """

    def __init__(self, groups, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, x):
        axis = self.channel_axis
        shape = list(ops.shape(x))
        split = [*shape[:axis], self.groups, x.shape[axis] // self.groups, *shape[axis + 1 :]]
        order = list(range(5))
        order[axis], order[axis + 1] = order[axis + 1], order[axis]
        return ops.reshape(ops.transpose(ops.reshape(x, split), order), shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"groups": self.groups}
