"""What the tiny networks show of each family, once more for every constructor, in full depth:
minutes long.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_senet
from keras_senet import models

pytestmark = pytest.mark.slow
SMALLEST = {"SEInceptionResNetV2": 96, "SEBNInception": 64}
every = pytest.mark.parametrize("name", models.__all__)


def build(name, **options):
    constructor = getattr(keras_senet, name)
    size = SMALLEST.get(name, 32 if constructor.input_size > 32 else 16)
    return constructor(weights=None, input_shape=(size, size, 3), **options), size


@every
def test_training_steps_lower_the_loss(name):
    """Six steps on eight images, at a small size, with whatever chance (dropout, Shake-Shake) there
    is in training.
    """
    keras.utils.set_random_seed(0)
    model, size = build(name, classes=8)
    optimizer = keras.optimizers.SGD(0.003, momentum=0.9)
    images = tf.constant(np.random.default_rng(0).normal(size=(8, size, size, 3)), "float32")
    losses = []
    for _ in range(6):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(
                    np.arange(8), model(images, training=True)
                )
            )
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        losses.append(float(loss))
    assert np.isfinite(losses).all()
    assert min(losses[1:]) < losses[0]


@every
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("channels", [1, 4])
def test_no_top_with_any_number_of_channels(name, layout, channels):
    keras.config.set_image_data_format(layout)
    shape = (None, None, channels) if layout == "channels_last" else (channels, None, None)
    model = getattr(keras_senet, name)(
        weights=None, include_top=False, input_shape=shape, pooling="max"
    )
    assert model.inputs[0].shape[1:] == shape
    assert model.output.shape[1] > 60


@every
def test_a_saved_model_answers_the_same(name, tmp_path):
    model, size = build(name)
    images = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras")(images), model(images)
    )


def test_only_senet154_and_vgg_drop_out():
    for name in models.__all__:
        layers = getattr(keras_senet, name)(weights=None).layers
        rates = [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]
        assert rates == {"SENet154": [0.2], "SEVGG16": [0.5, 0.5]}.get(name, [])
