"""Where channels can be cut out of a network, and which of them its gates rank lowest."""

from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_senet import graphs
from keras_senet.layers import ShakeShake, SqueezeExcite
from keras_senet.models.blocks import channel_axis

# What treats each channel for itself and has no weights
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


class Link(NamedTuple):
    """Channels that one convolution makes and one takes, through layers that treat each channel for
    itself.
    """

    maker: layers.Layer
    between: tuple[layers.Layer, ...]
    taker: layers.Layer

    @property
    def channels(self):
        return self.maker.filters

    @property
    def blocks(self):
        """The SE blocks in between."""
        return [layer for layer in self.between if isinstance(layer, SqueezeExcite)]


class Cut(NamedTuple):
    """A place to cut: units of channels that go or stay together.

    links       the `Link` in question, its units single channels; or those in front of and behind a
                grouped convolution, a unit then being one of its groups
    units       how many there are: unit i is the i-th of as many equal parts of each link's
                channels
    importance  how much the gates let through of what each channel of the last link contributes,
                (C,): a function of {SE block: (C,) mean magnitude of its gate}; None if no gate
                tells
    """

    links: tuple[Link, ...]
    units: int
    importance: object

    @property
    def name(self):
        return self.links[-1].maker.name

    @property
    def last(self):
        return self.links[-1]

    def scores(self, magnitudes):
        """The score of each unit, from the mean magnitudes of gates and of convolutions' inputs."""
        scores = self.importance(magnitudes)
        if not self.last.blocks:
            scores = scores * magnitudes[self.last.taker]
        return scores.reshape(self.units, -1).mean(axis=1)

    def kept(self, keep):
        """How many units stay, near a part 0..1 of them: a number for which SE blocks can keep
        their hidden width.
        """
        possible = [
            n for n in range(1, self.units + 1) if all(self._fits(n, link) for link in self.links)
        ]
        return min(possible, key=lambda n: (abs(n - keep * self.units), -n))

    def _fits(self, n, link):
        channels = n * link.channels // self.units
        return all(reduction_for(block, channels) for block in link.blocks)

    def indices(self, link, units):
        """The channels of a link that some units are."""
        size = link.channels // self.units
        return (np.sort(units)[:, None] * size + np.arange(size)).reshape(-1)


def reduction_for(block, channels):
    """The reduction by which this many channels give the block's hidden width; None if there is
    none.
    """
    width = block.reduce.filters
    reduction = channels // width
    return reduction if reduction and channels // reduction == width else None


def cuts(model):
    """The `Cut` of each place in a functional model whose channels gates rank."""
    found = []
    for graph in graphs.graphs(model):
        links = list(_links(graph))
        for link in links:
            cut = _cut(graph, link, links)
            if cut is not None and cut.importance is not None:
                found.append(cut)
    return found


def _links(graph):
    for node in graph.nodes:
        if type(node.operation) not in graphs.CONVOLUTIONS or not _is_channelwise_activation(
            node.operation
        ):
            continue
        between, reader = [], graph.consumer(node)
        while reader is not None and _keeps_channels(reader):
            between.append(reader.operation)
            reader = graph.consumer(reader)
        if reader is not None and type(reader.operation) in graphs.CONVOLUTIONS:
            yield Link(node.operation, tuple(between), reader.operation)


def _is_channelwise_activation(layer):
    return layer.activation is not keras.activations.softmax


def _keeps_channels(node):
    """Whether a layer treats each channel for itself, but for the gates of an SE block."""
    layer = node.operation
    if type(layer) in graphs.NORMALIZATIONS:
        return graphs.over_channels(layer, node.outputs[0], keras.config.image_data_format())
    if type(layer) is layers.DepthwiseConv2D:
        return layer.depth_multiplier == 1 and _is_channelwise_activation(layer)
    if type(layer) is layers.Activation:
        return _is_channelwise_activation(layer)
    return type(layer) in CHANNELWISE or isinstance(layer, SqueezeExcite)


def _cut(graph, link, links):
    """The cut whose last link is this one, or None."""
    if link.taker.groups > 1:
        return None
    importance = _importance_of(graph, link)
    if link.maker.groups == 1:
        return Cut((link,), link.channels, importance)
    before = [other for other in links if other.taker is link.maker and other.maker.groups == 1]
    return Cut((*before, link), link.maker.groups, importance) if before else None


def _importance_of(graph, link):
    if link.blocks:
        return lambda magnitudes: np.prod([magnitudes[block] for block in link.blocks], axis=0)
    behind = _behind(graph, graph.call(link.taker))
    return behind and (lambda magnitudes: contributions(link.taker, behind(magnitudes)))


def _behind(graph, node):
    """How much of each channel that a node gives goes through gates: a function as
    `Cut.importance`, or None.
    """
    reader = graph.consumer(node)
    if reader is None:
        return None
    layer = reader.operation
    if isinstance(layer, SqueezeExcite):
        return lambda magnitudes: magnitudes[layer]
    behind = _behind(graph, reader)
    if behind is None:
        return None
    if type(layer) in graphs.CONVOLUTIONS:
        return lambda magnitudes: contributions(layer, behind(magnitudes))
    if type(layer) is layers.Concatenate:
        place = _place(reader, node)
        return place and (lambda magnitudes: behind(magnitudes)[place])
    factor = _factor(reader)
    return None if factor is None else lambda magnitudes: factor * behind(magnitudes)


def _factor(node):
    """What a layer multiplies each channel by, in magnitude: a number or (C,); None for one that
    mixes channels.
    """
    layer = node.operation
    if type(layer) in graphs.NORMALIZATIONS:
        gamma = 1.0 if layer.gamma is None else np.abs(_array(layer.gamma))
        return gamma / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    if type(layer) is layers.DepthwiseConv2D:
        return np.sqrt((_array(layer.kernel)[..., 0] ** 2).sum(axis=(0, 1)))
    return 1.0 if _keeps_channels(node) or _is_sum(node) else None


def _is_sum(node):
    return type(node.operation) in SUMS and all(
        t.shape == node.outputs[0].shape for t in node.input_tensors
    )


def contributions(conv, importance):
    """What each input channel of a convolution gives to its output channels, weighted by their
    importance: (C,).

    The weighted sum, over output channels c, of the norm of the kernel's [:, :, j, c] for each
    input channel j.
    """
    norms = np.sqrt((_array(conv.kernel) ** 2).sum(axis=(0, 1)))  # (inputs of a group, outputs)
    shape = norms.shape[0], conv.groups, -1
    return np.einsum("jgc,gc->gj", norms.reshape(shape), importance.reshape(shape[1:])).reshape(-1)


def _array(variable):
    return ops.convert_to_numpy(variable).astype("float64")


def _place(node, before):
    """Where in the channels of a concatenation those of one of its inputs are; None if it joins
    another axis.
    """
    axis = channel_axis()
    if node.operation.axis % 4 != axis % 4:
        return None
    sizes = [tensor.shape[axis] for tensor in node.input_tensors]
    i = next(i for i, tensor in enumerate(node.input_tensors) if tensor is before.outputs[0])
    return slice(sum(sizes[:i]), sum(sizes[: i + 1]))
