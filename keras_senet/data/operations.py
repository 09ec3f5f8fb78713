"""Image operations: each is made by a small factory and maps (image (H, W, C), seed (2,)) to an
image.

Images are uint8 of 0..255. Everything random is a function of the seed.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_senet.recipes.augmentation import Augmentation

Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def augment_operation(augmentation: Augmentation) -> Operation:
    """All that an `Augmentation` does to one image of its final size.

    Each operation has a seed by its place in the list, whichever others are on.
    """
    mode = "REFLECT" if augmentation.reflect else "CONSTANT"
    rows = [
        (augmentation.pad_and_crop, lambda pixels: pad_and_crop(pixels, mode)),
        (augmentation.flip, lambda _: flip()),
        (augmentation.rotation, rotate),
        (augmentation.randaugment, lambda n: rand_augment(n, augmentation.randaugment_magnitude)),
        (augmentation.color_jitter, jitter_colors),
        (augmentation.pixel_jitter, jitter_pixels),
        (augmentation.random_erasing, erase_randomly),
        (augmentation.cutout, cut_out),
    ]
    chosen = [(place, make(value)) for place, (value, make) in enumerate(rows) if value]

    def operation(image, seed):
        for place, operate in chosen:
            image = tf.ensure_shape(operate(image, derive_seed(seed, place)), image.shape)
        return image

    return operation


def derive_seed(seed, number) -> tf.Tensor:
    """The seed (2,) with this number among those that are derived from a seed (2,).

    TensorFlow's stateless operations scramble their seed: a different one is enough.
    """
    step = tf.constant([0x5851F42D4C957F2D, 1], tf.int64)
    return tf.cast(seed, tf.int64) * step + tf.stack([tf.cast(number, tf.int64), 0])


def pad_and_crop(pixels: int, mode: str = "CONSTANT") -> Operation:
    """A random crop of the image's own size from the image padded on each side by `pixels` of
    black, or of its reflection with the mode "REFLECT".
    """

    def operation(image, seed):
        padded = tf.pad(image, [[pixels, pixels], [pixels, pixels], [0, 0]], mode)
        return tf.image.stateless_random_crop(padded, tf.shape(image), seed)

    return operation


def flip() -> Operation:
    """The image or its mirror image, with equal probability."""

    def operation(image, seed):
        mirrored = tf.random.stateless_uniform((), seed) < 0.5
        return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)

    return operation


def resize_square(image: tf.Tensor, size: int) -> tf.Tensor:
    """An image (H, W, C), uint8 -> uint8 (size, size, C): bilinear, antialiased, with the values
    of `tf.image.resize`.

    The op is called once per side, with the other side and the channels as one axis: it vectorises
    along that axis, but works pixel by pixel along a row of an image (0.45 ms against 1.2 for
    270x278 -> 224x224).
    """
    (height, width), channels = tf.unstack(tf.shape(image)[:2]), image.shape[-1]
    rows = _resample(image, height, size)
    columns = _resample(_transpose(rows, size), width, size)
    return tf.reshape(_transpose(_quantize(columns), size * channels), (size, size, channels))


def _resample(lines, count, wanted):
    """`count` lines of values -> float32 with the wanted number of lines, antialiased.

    Lines are columns of an image of one row: the op distributes rows among TensorFlow's threads,
    which costs more than it saves where every thread has an image of its own.
    """
    return tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(lines, (1, 1, count, -1)),
        size=(1, wanted),
        scale=tf.stack([1.0, wanted / tf.cast(count, tf.float32)]),
        translation=(0.0, 0.0),
        kernel_type="triangle",
    )


def _transpose(values, rows):
    """The transposed matrix, of values that form a matrix of this many rows."""
    matrix = tf.reshape(values, (rows, -1))
    if matrix.dtype != tf.float32:
        return tf.transpose(matrix)
    # For floats, oneDNN would compile code for every new shape.
    return tf.bitcast(tf.transpose(tf.bitcast(matrix, tf.int32)), tf.float32)


def _quantize(values):
    """float32 of 0..255 -> uint8, rounded, in one op: adding a half and casting are two."""
    quantized = tf.raw_ops.QuantizeV2(input=values, min_range=0.0, max_range=255.0, T=tf.quint8)
    return tf.bitcast(quantized.output, tf.uint8)


def to_uint8(image) -> tf.Tensor:
    """Rounded and clipped to 0..255."""
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def rotate(degrees: float) -> Operation:
    """The image rotated by a random angle within +-degrees about its centre, bilinear, black
    outside the image.

    Source: the authors' README, cv::getRotationMatrix2D, within 10 degrees.
    """
    return from_layer(
        keras.layers.RandomRotation(
            degrees / 360, fill_mode="constant", dtype="float32", data_format="channels_last"
        )
    )


def jitter_pixels(amount: float) -> Operation:
    """A random number within +-amount added to each value. Source: the authors' README, 20."""

    def operation(image, seed):
        noise = tf.random.stateless_uniform(tf.shape(image), seed, -amount, amount)
        return to_uint8(tf.cast(image, tf.float32) + noise)

    return operation


def jitter_colors(strength: float) -> Operation:
    """Brightness, contrast and saturation times 1 +- strength each, in a random order.

    They blend the image with black, with its mean luminance, and with its luminance. Source:
    ColorJitter of fb.resnet.torch. Keras' RandomColorJitter adds to the brightness, and does not
    increase the saturation.
    """
    blends = [tf.zeros_like, lambda x: tf.reduce_mean(_luminance(x), keepdims=True), _luminance]

    def operation(image, seed):
        draws = tf.random.stateless_uniform((6,), seed)
        factors = 1 + strength * (2 * draws[:3] - 1)
        image = tf.cast(image, tf.float32)

        def blend(i, x):
            mixed = tf.clip_by_value(factors[i] * x + (1 - factors[i]) * blends[i](x), 0, 255)
            return tf.ensure_shape(mixed, x.shape)

        for i in tf.unstack(tf.argsort(draws[3:])):
            image = tf.switch_case(i, [lambda k=k, x=image: blend(k, x) for k in range(3)])
        return to_uint8(image)

    return operation


def _luminance(image):
    """Luminance (H, W, 1) of RGB, as in ITU-R BT.601."""
    if image.shape[-1] != 3:
        return image
    return tf.tensordot(image, tf.constant([0.299, 0.587, 0.114]), 1)[..., None]


# The layers of Keras' RandAugment, in its order.
RANDAUGMENT_LAYERS = (
    "random_shear random_translation random_rotation random_brightness random_color_degeneration "
    "random_contrast random_sharpness random_posterization solarization auto_contrast equalization"
).split()


def rand_augment(count: int, magnitude: float) -> Operation:
    """`count` of the 11 operations of Keras' RandAugment in sequence, drawn with replacement.

    `magnitude` 0..1 is Keras' `factor`, but it rotates by 30 degrees at 1, as the paper does: Keras
    by 360. Source: Cubuk et al. 2019, arXiv 1909.13719.
    """
    whole = keras.layers.RandAugment(
        num_ops=count, factor=magnitude, dtype="float32", data_format="channels_last"
    )
    whole.random_rotation = keras.layers.RandomRotation(
        magnitude * 30 / 360, dtype="float32", data_format="channels_last"
    )
    layers = [getattr(whole, name) for name in RANDAUGMENT_LAYERS]

    def operation(image, seed):
        images, seeds = tf.cast(image, tf.float32)[None], DerivedSeeds(seed)
        chosen = keras.random.randint((count,), 0, len(layers), seed=seeds)
        drawn = [layer.get_random_transformation(images, seed=seeds) for layer in layers]

        def transform(i, images):
            return tf.ensure_shape(layers[i].transform_images(images, drawn[i]), images.shape)

        for index in tf.unstack(chosen):
            # The layer itself computes all 11 and keeps one.
            branches = [lambda i=i, x=images: transform(i, x) for i in range(len(layers))]
            images = tf.switch_case(index, branches)
        return to_uint8(images[0])

    return operation


def erase_randomly(probability: float) -> Operation:
    """With this probability a rectangle of noise, sides of 0.14 to 0.57 (arXiv 1708.04896)."""
    return from_layer(
        keras.layers.RandomErasing(
            (probability, probability), dtype="float32", data_format="channels_last"
        )
    )


def cut_out(side: int) -> Operation:
    """A black square of `side` pixels about a random pixel, clipped at the image's borders.

    Source: DeVries and Taylor 2017, arXiv 1708.04552: 16 for CIFAR-10, 8 for CIFAR-100.
    """

    def operation(image, seed):
        size = tf.shape(image)[:2]
        center = tf.random.stateless_uniform((2,), seed) * tf.cast(size, tf.float32)
        first = tf.cast(center, tf.int32) - side // 2
        rows, columns = (
            (tf.range(size[i]) >= first[i]) & (tf.range(size[i]) < first[i] + side)
            for i in range(2)
        )
        return tf.where((rows[:, None] & columns)[..., None], tf.zeros_like(image), image)

    return operation


def from_layer(layer) -> Operation:
    """A Keras image layer as an operation whose random draws are a function of its seed."""

    def operation(image, seed):
        images = tf.cast(image, tf.float32)[None]
        drawn = layer.get_random_transformation(images, seed=DerivedSeeds(seed))
        return to_uint8(layer.transform_images(images, drawn)[0])

    return operation


class DerivedSeeds(keras.random.SeedGenerator):
    """Keras' SeedGenerator without a state: its n-th seed is a function of n and a seed (2,)."""

    def __init__(self, first):
        self.first, self.drawn = first, 0

    def next(self, ordered=True):
        self.drawn += 1
        return derive_seed(self.first, self.drawn)
