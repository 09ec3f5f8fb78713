"""Channels that can be removed from a network together, and which its gates rank lowest."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_senet import graphs
from keras_senet.layers import ShakeShake, SqueezeExcite
from keras_senet.layers.data_format import channel_axis

# Layers that compute each channel from that channel only, and have no weights
CHANNELWISE = (
    layers.ReLU,
    layers.LeakyReLU,
    layers.ZeroPadding2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.Dropout,
    layers.SpatialDropout2D,
)
SUMS = (layers.Add, layers.Rescaling, ShakeShake)


class Edge(NamedTuple):
    """Channels from the convolution that produces them to the one that consumes them, through
    layers that compute each channel from that channel only.
    """

    producer: layers.Layer
    between: tuple[layers.Layer, ...]
    consumer: layers.Layer

    @property
    def channels(self) -> int:
        return self.producer.filters

    @property
    def blocks(self) -> list[SqueezeExcite]:
        """The SE blocks in between."""
        return [layer for layer in self.between if isinstance(layer, SqueezeExcite)]


Magnitudes = Mapping[layers.Layer, np.ndarray]  # mean magnitude of each SE block's gate: (C,)
Importance = Callable[[Magnitudes], np.ndarray]


class ChannelGroup(NamedTuple):
    """Channels that are kept or removed together, in units.

    edges       the `Edge` in question, its units single channels; or those before and after a
                grouped convolution, a unit then being one of its groups
    units       how many there are: unit i is the i-th of as many equal slices of each edge's
                channels
    importance  how much the gates let through of what each channel of the last edge contributes,
                (C,): a function of {SE block: (C,) mean magnitude of its gate}; None if no gate
                tells
    """

    edges: tuple[Edge, ...]
    units: int
    importance: Importance | None

    @property
    def name(self) -> str:
        return self.last.producer.name

    @property
    def last(self) -> Edge:
        return self.edges[-1]

    def scores(self, magnitudes: Magnitudes) -> np.ndarray:
        """The score of each unit, from the mean magnitudes of gates and of convolutions' inputs."""
        assert self.importance is not None
        scores = self.importance(magnitudes)
        if not self.last.blocks:
            scores = scores * magnitudes[self.last.consumer]
        return scores.reshape(self.units, -1).mean(axis=1)

    def count_kept(self, keep: float) -> int:
        """How many units are kept, near a fraction 0..1 of them: a number for which SE blocks can
        keep their hidden width.
        """
        counts = range(1, self.units + 1)
        possible = [n for n in counts if all(self._fits(n, edge) for edge in self.edges)]
        return min(possible, key=lambda n: (abs(n - keep * self.units), -n))

    def _fits(self, n, edge):
        channels = n * edge.channels // self.units
        return all(reduction_for(block, channels) for block in edge.blocks)

    def indices(self, edge: Edge, units: np.ndarray) -> np.ndarray:
        """The channels of an edge that some units are."""
        size = edge.channels // self.units
        return (np.sort(units)[:, None] * size + np.arange(size)).reshape(-1)


def reduction_for(block: SqueezeExcite, channels: int) -> int | None:
    """The reduction for which this many channels have the block's hidden width, or None."""
    width = block.reduce.filters
    reduction = channels // width
    return reduction if reduction and channels // reduction == width else None


def find_groups(model: keras.Model) -> list[ChannelGroup]:
    """Each `ChannelGroup` of a functional model that gates rank."""
    found = []
    for graph in graphs.graphs(model):
        edges = list(_find_edges(graph))
        groups = [_make_group(graph, edge, edges) for edge in edges]
        found += [group for group in groups if group is not None and group.importance is not None]
    return found


def _find_edges(graph) -> Iterator[Edge]:
    for node in graph.nodes:
        conv = node.operation
        if type(conv) not in graphs.CONVOLUTIONS or not _is_channelwise_activation(conv):
            continue
        between, consumer = [], graph.consumer(node)
        while consumer is not None and _keeps_channels(consumer):
            between.append(consumer.operation)
            consumer = graph.consumer(consumer)
        if consumer is not None and type(consumer.operation) in graphs.CONVOLUTIONS:
            yield Edge(conv, tuple(between), consumer.operation)


def _is_channelwise_activation(layer):
    return layer.activation is not keras.activations.softmax


def _keeps_channels(node):
    """Whether each channel is computed from that channel only, but for an SE block's gates."""
    layer = node.operation
    if type(layer) in graphs.NORMALIZATIONS:
        return graphs.over_channels(layer, node.outputs[0], keras.config.image_data_format())
    if type(layer) is layers.DepthwiseConv2D:
        return layer.depth_multiplier == 1 and _is_channelwise_activation(layer)
    if type(layer) is layers.Activation:
        return _is_channelwise_activation(layer)
    return type(layer) in CHANNELWISE or isinstance(layer, SqueezeExcite)


def _make_group(graph, edge, edges):
    """The group whose last edge is this one, or None."""
    if edge.consumer.groups > 1:
        return None
    importance = _edge_importance(graph, edge)
    conv = edge.producer
    if conv.groups == 1:
        return ChannelGroup((edge,), edge.channels, importance)
    before = [each for each in edges if each.consumer is conv and each.producer.groups == 1]
    return ChannelGroup((*before, edge), conv.groups, importance) if before else None


def _edge_importance(graph, edge):
    if edge.blocks:
        return lambda magnitudes: np.prod([magnitudes[block] for block in edge.blocks], axis=0)
    after = _output_importance(graph, graph.call(edge.consumer))
    return after and (lambda magnitudes: contributions(edge.consumer, after(magnitudes)))


def _output_importance(graph, node):
    """How much of a node's output goes through gates: as `ChannelGroup.importance`, or None."""
    consumer = graph.consumer(node)
    if consumer is None:
        return None
    layer = consumer.operation
    if isinstance(layer, SqueezeExcite):
        return lambda magnitudes: magnitudes[layer]
    after = _output_importance(graph, consumer)
    if after is None:
        return None
    if type(layer) in graphs.CONVOLUTIONS:
        return lambda magnitudes: contributions(layer, after(magnitudes))
    if type(layer) is layers.Concatenate:
        place = _place(consumer, node)
        return place and (lambda magnitudes: after(magnitudes)[place])
    factor = _factor(consumer)
    return None if factor is None else lambda magnitudes: factor * after(magnitudes)


def _factor(node):
    """What a layer multiplies each channel by: magnitudes, a number or (C,); None if it mixes."""
    layer = node.operation
    if type(layer) in graphs.NORMALIZATIONS:
        gamma = 1.0 if layer.gamma is None else np.abs(_as_float64(layer.gamma))
        return gamma / np.sqrt(_as_float64(layer.moving_variance) + layer.epsilon)
    if type(layer) is layers.DepthwiseConv2D:
        return np.sqrt((_as_float64(layer.kernel)[..., 0] ** 2).sum(axis=(0, 1)))
    return 1.0 if _keeps_channels(node) or _is_sum(node) else None


def _is_sum(node):
    return type(node.operation) in SUMS and all(
        t.shape == node.outputs[0].shape for t in node.input_tensors
    )


def contributions(conv: layers.Layer, importance: np.ndarray) -> np.ndarray:
    """What each input channel of a convolution contributes to its output channels, weighted by
    their importance: (C,).

    The weighted sum, over output channels c, of the norm of the kernel's [:, :, j, c] for each
    input channel j.
    """
    # (inputs of a group, outputs)
    norms = np.sqrt((_as_float64(conv.kernel) ** 2).sum(axis=(0, 1)))
    shape = norms.shape[0], conv.groups, -1
    return np.einsum("jgc,gc->gj", norms.reshape(shape), importance.reshape(shape[1:])).reshape(-1)


def _as_float64(variable):
    return np.asarray(ops.convert_to_numpy(variable), "float64")


def _place(node, before):
    """Where one input's channels are in a concatenation; None if it joins another axis."""
    axis = channel_axis()
    if node.operation.axis % 4 != axis % 4:
        return None
    sizes = [tensor.shape[axis] for tensor in node.input_tensors]
    i = next(i for i, tensor in enumerate(node.input_tensors) if tensor is before.outputs[0])
    return slice(sum(sizes[:i]), sum(sizes[: i + 1]))
