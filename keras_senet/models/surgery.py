"""Other views of a network: its feature maps, and SE blocks in any Keras model."""

import re
from typing import Any

import keras

from keras_senet.bases import preprocessing_of, require_base
from keras_senet.copying import keep_attributes, set_weights
from keras_senet.graphs import Graph, check_functional, functional_of, operation_of
from keras_senet.initializers import shapes_only
from keras_senet.layers import SqueezeExcite
from keras_senet.layers.data_format import arrange

LEVELS = ("C2", "C3", "C4", "C5")


def features(model: keras.Model) -> keras.Model:
    """A model of the same input and weights whose outputs are the maps at strides 4, 8, 16 and 32.

    For detection and segmentation: `{"C2": ..., "C3": ..., "C4": ..., "C5": ...}`, each (N, H, W,
    C) at the end of its stage. Build the network with `include_top=False, input_shape=(None, None,
    3)` for images of any size. With an `output_stride` of 16 or 8 the last maps keep that stride.
    Of a model that contains a network of keras_senet they are that network's.

    Raises:
        ValueError: for a model without a network of keras_senet, or with one for 32 x 32 images.
    """
    base = require_base(model, "Its feature maps are not known")
    spec: Any = base.origin.spec
    with shapes_only():
        levels = spec.levels(keras.Input(arrange(None, None, 3)))
        names = [operation_of(level).name for level in levels][-len(LEVELS) :]
    if len(names) < len(LEVELS):
        raise ValueError(
            "`model` must have feature maps at strides 4, 8, 16 and 32. "
            f"Received: {model.name!r}, a network for small images with {len(names)} stages"
        )
    inner = base.models[-1]
    outputs: Any = {
        level: inner.get_layer(name).output for level, name in zip(LEVELS, names, strict=True)
    }
    for functional, tensor in reversed(base.places()[:-1]):
        outputs = keras.Model(inner.inputs[0], outputs)(tensor)
        inner = functional
    inputs = inner.inputs[0] if len(inner.inputs) == 1 else inner.inputs
    view: Any = keras.Model(inputs, outputs, name=f"{model.name}_features")
    view.spec, view.preprocessing = spec, preprocessing_of(model)
    return view


def add_se(model: keras.Model, after: str, **options: Any) -> keras.Model:
    """A copy of a functional Keras model with a `SqueezeExcite` after each layer whose name
    matches a pattern.

    The copy keeps the model's weights; the new layers, called `<layer>_se`, have new ones.

    Args:
        model: a functional Keras model, such as `keras.applications.ResNet50(...)`.
        after: a regular expression that must match a layer's whole name: r"conv\\d_block\\d+_3_bn"
            is the end of each residual branch of `keras.applications.ResNet50`.
        **options: the arguments of `SqueezeExcite`.

    Raises:
        ValueError: if the model is not functional, the pattern is not a regular expression, no
            layer matches, or one that does has no four-dimensional output or is called several
            times.
    """
    check_functional(model)
    model = functional_of(model)
    matched = _matching(model, after)

    def call(layer, *arguments, **keywords):
        output = layer(*arguments, **keywords)
        return (
            SqueezeExcite(name=f"{layer.name}_se", **options)(output)
            if layer.name in matched
            else output
        )

    inputs = keras.tree.map_structure(_same_input, model.input)
    copy = keras.models.clone_model(model, inputs, call_function=call)
    for layer in model.layers:
        set_weights(copy.get_layer(layer.name), layer.get_weights())
    return keep_attributes(model, copy)


def _same_input(tensor):
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=operation_of(tensor).name)


def _matching(model, pattern):
    try:
        matched = [layer for layer in model.layers if re.fullmatch(pattern, layer.name)]
    except (re.error, TypeError) as error:
        raise ValueError(
            f"`after` must be a regular expression. Received: after={pattern!r} ({error})"
        ) from error
    if not matched:
        names = [layer.name for layer in model.layers]
        raise ValueError(
            f"No layer's name matches after={pattern!r}. "
            f"The {len(names)} names are {', '.join(names[:5])}, ..., {names[-1]}"
        )
    graph = Graph(model)
    for layer in matched:
        if graph.calls(layer) != 1:
            raise ValueError(
                f"`after` must match layers that the model calls once: {layer.name!r} is called "
                f"{graph.calls(layer)} times. Received: after={pattern!r}"
            )
        outputs = keras.tree.flatten(layer.output)
        if len(outputs) != 1 or len(outputs[0].shape) != 4:
            raise ValueError(
                f"SE blocks rescale four-dimensional maps; {layer.name!r} outputs {layer.output}"
            )
    return {layer.name for layer in matched}
