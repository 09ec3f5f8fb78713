"""The class of the networks: functional models whose `.keras` files also have what prediction
needs.
"""

import contextlib
from collections.abc import Iterable
from typing import Any

import keras

from keras_senet.bases import mark, preprocessing_of
from keras_senet.copying import keep_attributes
from keras_senet.graphs import check_functional, functional_of
from keras_senet.models.blocks import read_spec
from keras_senet.preprocessing import Preprocessing
from keras_senet.weights.metadata import METADATA, about, class_names_of, stored_preprocessing

# Last in the error of a Keras that does not know the class, and so of a process without this
# package: it ends with the whole configuration.
NEEDS = "import keras_senet"


@keras.saving.register_keras_serializable("keras_senet")
class Network(keras.Model):
    """A functional Keras model that knows its architecture, its preprocessing and its classes; all
    three are in the file that `model.save("x.keras")` writes, as data.

    `keras.models.load_model` restores them where keras_senet is imported. Models that are made of
    its tensors, as by `keras.Model(network.input, ...)`, are plain ones: `Network.of` makes them
    networks. `keras.models.clone_model` copies layers and nothing else; a network with new weights
    that knows the same is `Network.from_config(network.get_config())`.

    spec           a `models.blocks.Spec`; a model that no constructor made has none
    preprocessing  a `Preprocessing`
    """

    spec: Any
    preprocessing: Preprocessing

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes in the order of the output, or None if they are not known."""
        return self.__dict__.get("_class_names")

    @class_names.setter
    def class_names(self, names: Iterable[str] | None) -> None:
        # In `__dict__`, because Keras and TensorFlow wrap the tuples that are attributes
        self.__dict__["_class_names"] = None if names is None else tuple(map(str, names))

    @classmethod
    def of(cls, model: keras.Model) -> "Network":
        """A network of the same layers as a functional, or a built sequential, model.

        What the model does not say of its images, follows from a network that it contains, as
        under a user's own head: see `keras_senet.bases`.
        """
        check_functional(model)
        functional = functional_of(model)
        network = cls(functional.input, functional.output, name=model.name)
        keep_attributes(model, network)
        if preprocessing := preprocessing_of(model):
            network.preprocessing = preprocessing
        if hasattr(model, "spec"):
            network.spec = model.spec
        return network

    def get_config(self):
        stored = about(self)
        return super().get_config() | ({METADATA: {**stored, "needs": NEEDS}} if stored else {})

    @classmethod
    def from_config(cls, config, custom_objects=None):
        stored = config.get(METADATA)
        rest = {name: value for name, value in config.items() if name != METADATA}
        network = super().from_config(rest, custom_objects)
        if preprocessing := stored_preprocessing(stored):
            network.preprocessing = preprocessing
        network.class_names = class_names_of(stored)
        with contextlib.suppress(ValueError):  # an architecture of the user's own
            if stored and "spec" in stored:
                network.spec = read_spec(stored["spec"])
                if preprocessing:
                    mark(network, network.spec, preprocessing)
        return network


# As Keras calls the class that these models had: their place in `.weights.h5` files of models that
# they are layers of is called after it, and TensorBoard shows the graphs of models of this name.
Network.__name__ = "Functional"
