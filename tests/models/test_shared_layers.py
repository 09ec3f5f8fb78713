"""SE blocks cannot follow a layer that a model calls several times: each call would need a block of
its own.
"""

import keras
import pytest
from keras import layers

import keras_senet


def shared():
    x = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="shared")
    return keras.Model(x, layers.Conv2D(4, 1, name="last")(conv(conv(x))))


def test_a_layer_that_is_called_twice_is_named():
    message = "layers that the model calls once: 'shared' is called 2 times.*after='shared|last'"
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        keras_senet.add_se(shared(), after="shared|last")


def test_another_layer_of_the_same_model_takes_a_block():
    model = keras_senet.add_se(shared(), after="last")
    assert [layer.name for layer in model.layers if layer.name.endswith("_se")] == ["last_se"]


def test_a_call_outside_of_the_model_does_not_count():
    model = shared()
    model.get_layer("last")(keras.Input((8, 8, 3)))
    assert keras_senet.add_se(model, after="last").get_layer("last_se")
