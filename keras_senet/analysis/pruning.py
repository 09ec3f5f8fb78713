"""Networks without the channels that their gates rank lowest.

What is removed are channels between two convolutions, with nothing but batch normalisation, ReLU,
pooling, depthwise convolutions and SE blocks in between: the outputs of `conv1` and `conv2` of
bottlenecks, of `conv1` of units of two convolutions (also with pre-activation), and the like in
other networks. Both convolutions, and what is in between, keep the weights of the other channels.
An SE block in between keeps its hidden width; for its sake the number that is kept may be the
nearest for which a whole `reduction` yields that width. Of a grouped convolution whole groups are
removed, with their inputs and outputs.

The score of channel j, where an SE block is in between (position "conv3x3", VGG), is the mean
magnitude of its gate over images. Else it is what the channel contributes to what gates let
through:

    mean |a_j| * sum over c of i_c * norm of kernel[:, :, j, c]

where a_j is the channel as the second convolution takes it, in the mean over images and places,
kernel is that convolution's, and i_c the importance of its output c: |gamma_c| / sqrt(variance_c +
epsilon) of batch normalisation after it, times the mean magnitude of gate c. Where another
convolution precedes the gate (conv3, for conv1 of a bottleneck), that sum over its outputs is the
importance of its inputs. A group's score is the mean over its outputs.
"""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_senet import graphs
from keras_senet.analysis.channel_groups import ChannelGroup, Edge, find_groups, reduction_for
from keras_senet.analysis.means import mean_magnitudes
from keras_senet.analysis.removal import se_blocks
from keras_senet.bases import preprocessing_of
from keras_senet.copying import rebuild, with_config
from keras_senet.fields import check_argument, check_integer
from keras_senet.layers import SqueezeExcite


def prune(
    model: keras.Model,
    keep: float | Mapping[int, float] = 0.75,
    *,
    images: Any = None,
    ranking: str | Mapping[str, Any] = "gates",
    seed: int = 0,
    progress: Any = False,
) -> keras.Model:
    """A smaller functional model, without those channels inside its units that its gates rank
    lowest; Keras' `save` and `load_model` keep it.

    Args:
        model: a functional Keras model with SE blocks. It is not changed.
        keep: the fraction of the channels that is kept, above 0 and at most 1: for all stages, or
            {stage number: fraction}, other stages being left whole.
        images: what the ranking is computed on: a dataset of `keras_senet.data`, shown as for
            evaluation, or images (N, H, W, C) as the network takes them; a few hundred are enough.
        ranking: "gates"; "random", a baseline; or what `rank_channels` returns. Only the first
            needs images.
        seed: of the random ranking.
        progress: as `evaluate` has it.

    Returns:
        A model with the given one's `preprocessing` and names, which no `spec` describes.

    Raises:
        ValueError: for a model that is not functional, has no SE blocks, or none that rank channels
            which can be cut (position "pre" or "identity", ShuffleNet); other values of the
            arguments; no images.
    """
    found = prunable(model)
    preprocessing_of(model)  # the copy has that of the model
    fractions = _read_fractions(keep, found)
    scores = _scores(model, found, images, ranking, seed, progress)
    kept = KeptChannels()
    for group, fraction, score in zip(found, fractions, scores, strict=True):
        best = np.argsort(-score, kind="stable")[: group.count_kept(fraction)]
        for edge in group.edges:
            kept.add(edge, group.indices(edge, best))
    return rebuild(model, {layer: kept.shrink(layer) for layer in kept.layers})


def prunable(model: keras.Model) -> list[ChannelGroup]:
    """The channels of a model that `prune` removes. Raises ValueError as `prune` does."""
    se_blocks(model)
    found = find_groups(model)
    if not found:
        raise ValueError(
            f"The gates of {model.name!r} rank no channels that can be cut: there must be two "
            "convolutions with nothing but batch normalisation, ReLU, pooling and SE blocks in "
            "between, and an SE block there or after the second one, as in residual units with SE "
            "blocks in position 'standard', 'post' or 'conv3x3'"
        )
    return found


def rank_channels(
    model: keras.Model, images: Any, *, progress: Any = False
) -> dict[str, np.ndarray]:
    """The scores by which `prune` ranks the channels of each convolution that loses some: {layer's
    name: (C,)}.

    Arguments and errors as for `prune`. Of a grouped convolution there is a score for each group.
    """
    found = prunable(model)
    consumers = [group.last.consumer for group in found]
    magnitudes = mean_magnitudes(model, [*se_blocks(model), *consumers], images, progress=progress)
    return {group.name: group.scores(magnitudes) for group in found}


def _read_fractions(keep, found):
    if not isinstance(keep, Mapping):
        return [_check_fraction(keep)] * len(found)
    stages = [graphs.stage_number(group.last.producer.name) for group in found]
    known = {stage for stage in stages if stage is not None}
    if set(keep) - known or not keep:
        listed = ", ".join(map(str, sorted(known))) or "none"
        raise ValueError(
            f"`keep` must name stages whose channels can be cut ({listed}). "
            f"Received: keep={dict(keep)}"
        )
    fractions = {stage: _check_fraction(fraction) for stage, fraction in keep.items()}
    return [fractions.get(stage, 1.0) for stage in stages]


def _check_fraction(fraction):
    is_number = isinstance(fraction, numbers.Real) and not isinstance(fraction, bool)
    check_argument("keep", fraction, is_number and 0 < fraction <= 1, "above 0 and at most 1")
    return fraction


def _scores(model, found, images, ranking, seed, progress):
    is_known = isinstance(ranking, Mapping) or str(ranking) in ("gates", "random")
    check_argument("ranking", ranking, is_known, "'gates', 'random' or a dict of scores")
    if ranking == "random":
        check_integer("seed", seed, 0)
        random = np.random.default_rng(int(seed))
        return [random.random(group.units) for group in found]
    if ranking == "gates":
        if images is None:
            raise ValueError(
                "A ranking by gates needs `images`: a dataset, or images as the network takes them"
            )
        ranking = rank_channels(model, images, progress=progress)
    return [_read_scores(ranking, group) for group in found]


def _read_scores(ranking, group):
    scores = np.asarray(ranking.get(group.name, ()))
    if scores.shape != (group.units,) or not np.isfinite(scores).all():
        raise ValueError(
            f"`ranking` must have {group.units} finite scores for {group.name!r}. "
            f"Received: {scores.size} scores, {np.isfinite(scores).sum()} of them finite"
        )
    return scores


@dataclass(frozen=True)
class KeptChannels:
    """The indices of each layer's input and output channels that are kept; no entry: all."""

    inputs: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)

    @property
    def layers(self) -> list[keras.Layer]:
        """Those that change."""
        return [*dict.fromkeys([*self.inputs, *self.outputs])]

    def add(self, edge: Edge, indices: np.ndarray) -> None:
        """Sets what is kept of an edge's channels."""
        self.inputs[edge.consumer] = self.outputs[edge.producer] = indices
        self.outputs.update(dict.fromkeys(edge.between, indices))

    def shrink(self, layer: keras.Layer) -> tuple[keras.Layer, list[np.ndarray]]:
        """(a layer of these channels only, its weights)."""
        inputs, outputs = self.inputs.get(layer), self.outputs.get(layer)
        if type(layer) in graphs.CONVOLUTIONS:
            return _shrink_convolution(layer, inputs, outputs)
        if isinstance(layer, SqueezeExcite):
            return _shrink_block(layer, outputs)
        # vectors, or the kernel of a depthwise convolution
        weights = [np.take(w, outputs, axis=2 if w.ndim == 4 else 0) for w in layer.get_weights()]
        return with_config(layer), weights


def _shrink_convolution(conv, inputs, outputs):
    kernel, *bias = conv.get_weights()
    if inputs is not None and conv.groups == 1:  # else the group's inputs go with its outputs
        kernel = kernel[:, :, inputs]
    if outputs is None:
        return with_config(conv), [kernel, *bias]
    groups = max(1, conv.groups * len(outputs) // conv.filters)
    weights = [weight[..., outputs] for weight in (kernel, *bias)]
    return with_config(conv, filters=len(outputs), groups=groups), weights


def _shrink_block(block, channels):
    """The SE block on fewer channels, with the same hidden units."""
    reduce, expand = (conv.get_weights() for conv in (block.reduce, block.expand))
    smaller = with_config(block, reduction=reduction_for(block, len(channels)))
    return smaller, [
        reduce[0][:, :, channels],
        *reduce[1:],
        *(weight[..., channels] for weight in expand),
    ]
