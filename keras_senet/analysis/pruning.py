"""Networks without the channels that their gates rank lowest."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from keras_senet import graphs
from keras_senet.analysis.cuts import cuts, reduction_for
from keras_senet.analysis.means import mean_magnitudes
from keras_senet.analysis.removal import se_blocks
from keras_senet.layers import SqueezeExcite


def prune(model, keep=0.75, *, images=None, ranking="gates", seed=0, progress=False):
    """A smaller functional model, without those channels inside its units that its gates rank
    lowest.

    Cut are channels between two convolutions, with nothing but batch normalisation, ReLU, pooling,
    depthwise convolutions and SE blocks in between: the outputs of `conv1` and `conv2` of
    bottlenecks, of `conv1` of units of two convolutions (also with pre-activation), and the like in
    other networks. Both convolutions, and what is in between, keep the weights of the channels that
    stay. An SE block in between keeps its hidden width; for its sake the number that stays may be
    the nearest for which a whole `reduction` gives that width. Of a grouped convolution whole
    groups go, with their inputs and outputs.

    The score of channel j, where an SE block stands in between (position "conv3x3", VGG), is the
    mean magnitude of its gate over images. Else it is what the channel contributes to what gates
    let through:

        mean |a_j| * sum over c of i_c * norm of kernel[:, :, j, c]

    where a_j is the channel as the second convolution takes it, in the mean over images and places,
    kernel is that convolution's, and i_c the importance of its output c: |gamma_c| /
    sqrt(variance_c + epsilon) of batch normalisation behind it, times the mean magnitude of gate c.
    Where another convolution stands before the gate (conv3, for conv1 of a bottleneck), that sum
    over its outputs is the importance of its inputs. A group's score is the mean over its outputs.

    Args:
        model: a functional Keras model with SE blocks. It is left as it is.
        keep: the part of the channels that stays, above 0 and at most 1: for all stages, or {stage
        number: part}, other
            stages being left whole.
        images: what the ranking looks at: a dataset of `keras_senet.data`, shown as for evaluation,
        or images
            (N, H, W, C) as the network takes them. A few hundred are enough for means.
        ranking: "gates"; "random", a baseline; or what `rank_channels` gives. Only the first needs
        images. seed: of the random ranking. progress: whether to show a progress bar on the error
        stream, if that is a terminal; or the `rich` console for
            it.

    Returns:
        A model with `preprocessing` and the names of the given one, and without `spec`: no spec
        says what it is. Keras' `save` and `load_model` keep it.

    Raises:
        ValueError: for a model that is not functional, has no SE blocks, or none that rank channels
        which can be cut
            (position "pre" or "identity", ShuffleNet); other values of the arguments; no images.
    """
    found = prunable(model)
    parts = _parts(keep, found)
    scores = _scores(model, found, images, ranking, seed, progress)
    chosen = Channels()
    for cut, part, score in zip(found, parts, scores, strict=True):
        best = np.argsort(-score, kind="stable")[: cut.kept(part)]
        for link in cut.links:
            chosen.add(link, cut.indices(link, best))
    return graphs.rebuild(model, {layer: chosen.smaller(layer) for layer in chosen.layers})


def prunable(model):
    """The `Cut` of each place in a model where `prune` cuts. Raises ValueError as `prune` does."""
    se_blocks(model)
    found = cuts(model)
    if not found:
        raise ValueError(
            f"The gates of {model.name!r} rank no channels that can be cut: there must be two convolutions with "
            "nothing but batch normalisation, ReLU, pooling and SE blocks in between, and an SE block there or behind "
            "the second one, as in residual units with SE blocks in position 'standard', 'post' or 'conv3x3'"
        )
    return found


def rank_channels(model, images, *, progress=False):
    """The scores by which `prune` ranks, of the channels of each convolution that loses some:
    {layer's name: (C,)}.

    Arguments and errors as for `prune`. Of a grouped convolution there is a score for each group.
    """
    found = prunable(model)
    takers = [cut.last.taker for cut in found]
    magnitudes = mean_magnitudes(model, [*se_blocks(model), *takers], images, progress=progress)
    return {cut.name: cut.scores(magnitudes) for cut in found}


def _parts(keep, found):
    """The part of each cut that stays."""
    if not isinstance(keep, Mapping):
        return [_checked(keep)] * len(found)
    stages = [graphs.stage_number(cut.last.maker.name) for cut in found]
    unknown = set(keep) - {stage for stage in stages if stage is not None}
    if unknown or not keep:
        known = (
            ", ".join(map(str, sorted({stage for stage in stages if stage is not None}))) or "none"
        )
        raise ValueError(
            f"`keep` must name stages whose channels can be cut ({known}). Received: keep={dict(keep)}"
        )
    parts = {stage: _checked(part) for stage, part in keep.items()}
    return [parts.get(stage, 1.0) for stage in stages]


def _checked(part):
    is_number = isinstance(part, numbers.Real) and not isinstance(part, bool)
    if not is_number or not 0 < part <= 1 or not math.isfinite(part):
        raise ValueError(f"`keep` must be above 0 and at most 1. Received: keep={part!r}")
    return part


def _scores(model, found, images, ranking, seed, progress):
    """The score of each unit of each cut."""
    if not isinstance(ranking, Mapping) and not (
        isinstance(ranking, str) and ranking in ("gates", "random")
    ):
        raise ValueError(
            f"`ranking` must be 'gates', 'random' or a dict of scores. Received: ranking={ranking!r}"
        )
    if ranking == "random":
        if not isinstance(seed, numbers.Integral) or seed < 0:
            raise ValueError(f"`seed` must be an integer of at least 0. Received: seed={seed!r}")
        random = np.random.default_rng(seed)
        return [random.random(cut.units) for cut in found]
    if ranking == "gates" and images is None:
        raise ValueError(
            "A ranking by gates needs `images`: a dataset, or images as the network takes them"
        )
    if ranking == "gates":
        ranking = rank_channels(model, images, progress=progress)
    for cut in found:
        scores = np.asarray(ranking.get(cut.name, ()))
        if scores.shape != (cut.units,) or not np.isfinite(scores).all():
            raise ValueError(
                f"`ranking` must have {cut.units} finite scores for {cut.name!r}. Received: {scores.size} scores, "
                f"{np.isfinite(scores).sum()} of them finite"
            )
    return [np.asarray(ranking[cut.name]) for cut in found]


@dataclass(frozen=True)
class Channels:
    """The channels that stay: of each layer's inputs and outputs, their indices; all where there is
    no entry.
    """

    inputs: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)

    @property
    def layers(self):
        """Those that change."""
        return [*dict.fromkeys([*self.inputs, *self.outputs])]

    def add(self, link, indices):
        """What stays of a link's channels."""
        self.inputs[link.taker] = self.outputs[link.maker] = indices
        self.outputs.update(dict.fromkeys(link.between, indices))

    def smaller(self, layer):
        """(a layer of these channels alone, its weights)."""
        inputs, outputs = self.inputs.get(layer), self.outputs.get(layer)
        if type(layer) in graphs.CONVOLUTIONS:
            return _smaller_convolution(layer, inputs, outputs)
        if isinstance(layer, SqueezeExcite):
            return _smaller_block(layer, outputs)
        # vectors, or the kernel of a depthwise convolution
        weights = [np.take(w, outputs, axis=2 if w.ndim == 4 else 0) for w in layer.get_weights()]
        return graphs.with_config(layer), weights


def _smaller_convolution(conv, inputs, outputs):
    kernel, *bias = conv.get_weights()
    if inputs is not None and conv.groups == 1:  # else the group's inputs go with its outputs
        kernel = kernel[:, :, inputs]
    if outputs is None:
        return graphs.with_config(conv), [kernel, *bias]
    groups = max(1, conv.groups * len(outputs) // conv.filters)
    weights = [weight[..., outputs] for weight in (kernel, *bias)]
    return graphs.with_config(conv, filters=len(outputs), groups=groups), weights


def _smaller_block(block, channels):
    """The SE block on fewer channels, with the same hidden units."""
    reduce, expand = (conv.get_weights() for conv in (block.reduce, block.expand))
    smaller = graphs.with_config(block, reduction=reduction_for(block, len(channels)))
    return smaller, [
        reduce[0][:, :, channels],
        *reduce[1:],
        *(weight[..., channels] for weight in expand),
    ]
