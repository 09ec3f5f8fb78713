"""The emitters of layers: a functional Keras model as an ONNX graph, images being (N, C, H, W).

`EMITTERS` has a function for each layer that is known: the networks of keras_senet and the usual
ones of Keras. Each takes the `OnnxGraph` to add to, the layer, and a `Value` for each input, and
returns one.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_senet import graphs
from keras_senet.layers import GroupedConv2D

from .graph import OnnxGraph, UnsupportedLayerError, Value

# The layers that can take over the zeros of a ZeroPadding2D before them.
TAKE_PADS = (
    layers.Conv2D,
    GroupedConv2D,
    layers.DepthwiseConv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
)

# These do something in training only. Augmentation is called with `training=True` by default, and
# nevertheless does nothing where the whole model is called with `training=False`.
AUGMENTATION = (
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    layers.RandomContrast,
    layers.RandomBrightness,
)
INACTIVE = (
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    *AUGMENTATION,
)

EMITTERS = {}


def emits(*kinds: type):
    """Registers a function for layers of these very classes: a subclass may compute otherwise."""

    def register(function):
        EMITTERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def check_supported(model: keras.Model) -> None:
    """Raises UnsupportedLayerError for a layer, nested too, without an emitter for its call."""
    for node in graphs.Graph(graphs.functional_of(model)).nodes:
        layer = node.operation
        if node.is_input:
            continue
        if not _has_emitter(layer) or len(node.outputs) != 1:
            raise UnsupportedLayerError(f"{layer.name} of {type(layer).__name__}")
        if type(layer) not in AUGMENTATION and not graphs.is_plain(node):
            raise UnsupportedLayerError(f"{layer.name} called with {node.arguments.kwargs}")
        if isinstance(layer, keras.Model):
            check_supported(layer)


def _has_emitter(layer):
    if isinstance(layer, keras.Model):
        return graphs.is_functional(layer) and len(layer.inputs) == 1
    return (
        type(layer) in EMITTERS
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and graphs.has_plain_kernel(layer)
    )


def emit_model(graph: OnnxGraph, model: keras.Model, x: Value) -> list[Value]:
    """The outputs for the value x of a model that `check_supported` accepts."""
    functional = graphs.functional_of(model)
    found = {id(functional.inputs[0]): x}
    for node in graphs.Graph(functional).nodes:
        if not node.is_input:
            (output,) = node.outputs
            inputs = [found[id(tensor)] for tensor in node.input_tensors]
            found[id(output)] = _emit(graph, node, inputs)
    return [graph.add_pads(found[id(output)]) for output in functional.outputs]


def _emit(graph, node, inputs):
    layer, (output,) = node.operation, node.outputs
    if isinstance(layer, keras.Model):
        (result,) = emit_model(graph, layer, graph.add_pads(inputs[0]))
        return result._replace(shape=tuple(output.shape))
    if type(layer) not in TAKE_PADS:
        inputs = [graph.add_pads(x) for x in inputs]
    return EMITTERS[type(layer)](graph, layer, *inputs)._replace(shape=tuple(output.shape))


def as_float32(weight) -> np.ndarray:
    """A weight as an array."""
    return np.asarray(ops.convert_to_numpy(weight), "float32")
