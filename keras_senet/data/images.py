"""Image operations: each is made by a small factory and maps (image (H, W, C), seed (2,)) to an
image.

Images are uint8 of 0..255. Everything random follows from the seed.
"""

import tensorflow as tf


def numbered(seed, number):
    """The seed (2,) of the draw with this number among those that follow from a seed (2,).

    TensorFlow's stateless operations scramble their seed, so that another one is all it takes.
    """
    step = tf.constant([0x5851F42D4C957F2D, 1], tf.int64)
    return tf.cast(seed, tf.int64) * step + tf.stack([tf.cast(number, tf.int64), 0])


def pad_and_crop(pixels, mode="CONSTANT"):
    """A random crop of the image's own size from the image padded by `pixels` of black on each
    side, or "REFLECT"ed.
    """

    def operation(image, seed):
        padded = tf.pad(image, [[pixels, pixels], [pixels, pixels], [0, 0]], mode)
        return tf.image.stateless_random_crop(padded, tf.shape(image), seed)

    return operation


def flip():
    """The image or its mirror image, with equal chance."""

    def operation(image, seed):
        mirrored = tf.random.stateless_uniform((), seed) < 0.5
        return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)

    return operation


def resize(image, size):
    """An image (H, W, C), uint8 -> uint8 (size, size, C): bilinear, antialiased, as
    `tf.image.resize` does it.

    The op is called once a side, with the other side and the channels as one axis: it works with
    vectors along that axis, but pixel by pixel along a row of an image (0.45 ms against 1.2 for
    270x278 -> 224x224).
    """
    (height, width), channels = tf.unstack(tf.shape(image)[:2]), image.shape[-1]
    rows = _shortened(image, height, size)
    columns = _shortened(_transposed(rows, size), width, size)
    return tf.reshape(_transposed(_rounded(columns), size * channels), (size, size, channels))


def _shortened(lines, count, wanted):
    """So many lines of values -> float32 with the wanted number of lines, antialiased.

    Lines are columns of an image of one row: the op parts rows among TensorFlow's threads, which
    costs more than it gives where all threads have an image.
    """
    return tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(lines, (1, 1, count, -1)),
        size=(1, wanted),
        scale=tf.stack([1.0, wanted / tf.cast(count, tf.float32)]),
        translation=(0.0, 0.0),
        kernel_type="triangle",
    )


def _transposed(values, rows):
    """The matrix of so many rows that has these values, transposed."""
    matrix = tf.reshape(values, (rows, -1))
    if matrix.dtype != tf.float32:
        return tf.transpose(matrix)
    # For floats, oneDNN would compile code for every new shape.
    return tf.bitcast(tf.transpose(tf.bitcast(matrix, tf.int32)), tf.float32)


def _rounded(values):
    """float32 of 0..255 -> uint8, in one go: adding a half and casting are two."""
    quantized = tf.raw_ops.QuantizeV2(input=values, min_range=0.0, max_range=255.0, T=tf.quint8)
    return tf.bitcast(quantized.output, tf.uint8)


def to_uint8(image):
    """Rounded, cut to 0..255."""
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def rotation(degrees):
    """The image turned by a random angle within +-degrees about its middle, bilinear, black where
    nothing is.

    Source: the authors' README, cv::getRotationMatrix2D, within 10 degrees.
    """
    import keras

    layer = keras.layers.RandomRotation(
        degrees / 360, fill_mode="constant", dtype="float32", data_format="channels_last"
    )
    return keras_layer(layer)


def pixel_jitter(amount):
    """A random number within +-amount added to each of the H*W*C values. Source: the authors'
    README, amount 20.
    """

    def operation(image, seed):
        noise = tf.random.stateless_uniform(tf.shape(image), seed, -amount, amount)
        return to_uint8(tf.cast(image, tf.float32) + noise)

    return operation


def color_jitter(strength):
    """Brightness, contrast and saturation times 1 +- strength each, in a random order.

    Each blends the image with black, with its mean grey, and with its own grey version. Source:
    ColorJitter of fb.resnet.torch. Keras' RandomColorJitter adds to the brightness and blends no
    saturation above 1.
    """

    def operation(image, seed):
        draws = tf.random.stateless_uniform((6,), seed)
        factors = 1 + strength * (2 * draws[:3] - 1)
        image = tf.cast(image, tf.float32)
        blends = [
            lambda x: tf.zeros_like(x),
            lambda x: tf.reduce_mean(_grey(x), keepdims=True),
            _grey,
        ]

        def blend(i, x):
            return tf.clip_by_value(factors[i] * x + (1 - factors[i]) * blends[i](x), 0, 255)

        for i in tf.unstack(tf.argsort(draws[3:])):
            image = tf.switch_case(
                i, [lambda k=k, x=image: tf.ensure_shape(blend(k, x), x.shape) for k in range(3)]
            )
        return to_uint8(image)

    return operation


def _grey(image):
    """Luminance (H, W, 1), as in ITU-R BT.601."""
    if image.shape[-1] != 3:
        return image
    return tf.tensordot(image, tf.constant([0.299, 0.587, 0.114]), 1)[..., None]


def random_augment(operations, magnitude):
    """So many of the 11 operations of Keras' RandAugment in turn, each drawn anew.

    `magnitude` 0..1 is Keras' `factor`, but it turns by 30 degrees at 1, as the paper does: Keras
    by 360. Source: Cubuk et al. 2019, arXiv 1909.13719.
    """
    import keras

    layer = keras.layers.RandAugment(
        num_ops=operations, factor=magnitude, dtype="float32", data_format="channels_last"
    )

    layer.random_rotation = keras.layers.RandomRotation(
        magnitude * 30 / 360, dtype="float32", data_format="channels_last"
    )

    def operation(image, seed):
        images = tf.cast(image, tf.float32)[None]
        with _drawing_from(layer, seed):
            drawn = layer.get_random_transformation(images)
        steps = [(getattr(layer, name), how) for name, how in drawn["transforms"].items()]
        for index in tf.unstack(drawn["layer_idxes"]):
            # The layer itself computes all 11 and keeps one.
            branches = [
                lambda s=s, how=how, x=images: tf.ensure_shape(s.transform_images(x, how), x.shape)
                for s, how in steps
            ]
            images = tf.switch_case(index, branches)
        return to_uint8(images[0])

    return operation


def random_erasing(probability):
    """A rectangle of noise with this probability, sides of 0.14 to 0.57 of the image's (arXiv
    1708.04896).
    """
    import keras

    layer = keras.layers.RandomErasing(
        (probability, probability), dtype="float32", data_format="channels_last"
    )
    return keras_layer(layer)


def cutout(side):
    """A black square of `side` pixels about a random pixel; what lies outside the image is cut off.

    Source: DeVries and Taylor 2017, arXiv 1708.04552: 16 for CIFAR-10, 8 for CIFAR-100.
    """

    def operation(image, seed):
        size = tf.shape(image)[:2]
        middle = tf.cast(
            tf.random.stateless_uniform((2,), seed) * tf.cast(size, tf.float32), tf.int32
        )
        rows, columns = (
            (tf.range(size[i]) >= middle[i] - side // 2)
            & (tf.range(size[i]) < middle[i] - side // 2 + side)
            for i in range(2)
        )
        return tf.where((rows[:, None] & columns)[..., None], tf.zeros_like(image), image)

    return operation


def mixing(mixup, cutmix, size, seed):
    """How a pair is mixed: (share of the image itself, box (top, left, bottom, right) that comes
    from the other).

    With both alphas each has an equal chance. Mixup has an empty box, CutMix the share 1 - box /
    image. Sources: Zhang et al. 2017, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899.
    """
    draws = tf.random.stateless_uniform((3,), seed)
    blends = draws[0] < (0.5 if mixup and cutmix else float(bool(mixup)))
    share = tf.where(blends, _beta(mixup, numbered(seed, 1)), _beta(cutmix, numbered(seed, 2)))
    side = tf.cast(size * tf.sqrt(1 - share), tf.int32)
    middle = tf.cast(draws[1:] * size, tf.int32)
    box = tf.clip_by_value(tf.concat([middle - side // 2, middle - side // 2 + side], 0), 0, size)
    area = tf.cast((box[2] - box[0]) * (box[3] - box[1]), tf.float32)
    return tf.where(blends, share, 1 - area / size**2), tf.where(blends, tf.zeros_like(box), box)


def _beta(alpha, seed):
    """A draw from Beta(alpha, alpha)."""
    gammas = tf.random.stateless_gamma((2,), seed, max(alpha, 1e-3), dtype=tf.float64)
    return tf.cast((gammas[0] + 1e-300) / (tf.reduce_sum(gammas) + 2e-300), tf.float32)


def mix_pairs(images, targets, shares, boxes):
    """Each image (b, H, W, C) with its neighbour, 2k with 2k + 1: images uint8, targets (b,
    classes).
    """
    size = images.shape[1]
    cast = tf.cast(images, tf.float32)
    others = _neighbours(cast)
    rows, columns = (
        (tf.range(size) >= boxes[:, i, None]) & (tf.range(size) < boxes[:, i + 2, None])
        for i in range(2)
    )
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]
    blends = tf.reduce_all(tf.equal(boxes, 0), axis=1)
    kept = tf.where(blends, shares, 1.0)[:, None, None, None]
    mixed = tf.where(inside, others, kept * cast + (1 - kept) * others)
    return to_uint8(mixed), shares[:, None] * targets + (1 - shares[:, None]) * _neighbours(targets)


def _neighbours(values):
    """Elements 2k and 2k + 1 exchanged."""
    pairs = tf.reshape(values, (-1, 2, *values.shape[1:]))
    return tf.reshape(pairs[:, ::-1], tf.shape(values))


def keras_layer(layer):
    """A Keras image layer as an operation that draws from its seed alone."""

    def operation(image, seed):
        images = tf.cast(image, tf.float32)[None]
        with _drawing_from(layer, seed):
            drawn = layer.get_random_transformation(images)
        return to_uint8(layer.transform_images(images, drawn)[0])

    return operation


class _drawing_from:  # noqa: N801
    """Within, the layer's draws follow from a seed."""

    def __init__(self, layer, seed):
        self.layers = [
            layer,
            *(value for value in vars(layer).values() if hasattr(value, "_get_seed_generator")),
        ]
        self.seeds = _seeds(seed)

    def __enter__(self):
        for layer in self.layers:
            object.__setattr__(layer, "_get_seed_generator", lambda backend=None: self.seeds)

    def __exit__(self, *error):
        for layer in self.layers:
            object.__delattr__(layer, "_get_seed_generator")


def _seeds(seed):
    """Keras' SeedGenerator, but without a state: its n-th seed follows from n and a seed tensor
    (2,).
    """
    import keras

    class Seeds(keras.random.SeedGenerator):
        def __init__(self):
            self.drawn = 0

        def next(self, ordered=True):
            self.drawn += 1
            return numbered(seed, self.drawn)

    return Seeds()


def chain(operations):
    """All operations in turn, each with a seed of its own by its place; None is left out."""

    def operation(image, seed):
        for i, each in enumerate(operations):
            if each:
                image = tf.ensure_shape(each(image, numbered(seed, i)), image.shape)
        return image

    return operation
