"""Networks without some of their SE blocks.

Where a gate stays as a constant, each channel keeps the mean of its gate over images. As a factor
it goes into the batch normalisation or convolution before the block, if nothing else consumes the
output of that; also through a ReLU, if no gate is negative. Else a 1x1 depthwise convolution called
"<block>_gate" takes the block's place: after joined branches, and in the positions "pre" and
"post".
"""

import dataclasses
import numbers
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_senet import graphs
from keras_senet.analysis.means import mean_gates
from keras_senet.analysis.taps import check_found
from keras_senet.bases import find_bases, mark_copy, preprocessing_of
from keras_senet.copying import rebuild, with_config
from keras_senet.layers import SqueezeExcite

LINEAR, RELU = keras.activations.linear, keras.activations.relu


def remove_se(
    model: keras.Model,
    stages: Collection[int] | None = None,
    blocks: Collection[str] | None = None,
    constant_from: Any = None,
) -> keras.Model:
    """A functional model without some of the SE blocks, with a gate of 1 or, with `constant_from`,
    a constant one in the place of each: the mean over images, as a factor of a layer before it.

    All other weights and names, and `preprocessing`, are the model's. `spec` is that of the new
    network where a spec describes it, so that `keras_senet.save_weights` writes it: without
    depthwise convolutions, and if the blocks of whole stages were removed. Blocks in nested models
    are found too, and a network that the model contains has the new spec there.

    Args:
        model: a functional Keras model with SE blocks. It is not changed.
        stages: the numbers of the stages that lose their blocks, as in the layers' names: 2..5 in
            networks for ImageNet, 1..3 in those for 32 x 32 images. None is all blocks.
        blocks: the names of blocks to remove, instead of `stages`.
        constant_from: None; or a dataset of `keras_senet.data`; or images (N, H, W, C) as the
            network takes them; or the gates themselves, {name of a block: (C,)}.

    Raises:
        ValueError: for a model that is not functional or has no SE blocks, a stage or name without
            any, a dataset without images, gates of another shape or that are not finite.
    """
    found = se_blocks(model)
    preprocessing_of(model)  # the copy has that of the model
    chosen = choose(found, stages, blocks)
    gates = None if constant_from is None else _constants(model, chosen, constant_from)
    changed = {}
    for graph in graphs.graphs(model) if gates else ():
        for block in (layer for layer in graph.layers if layer in gates):
            layer, *replacement = _with_factor(graph, block, changed, gates[block])
            changed[layer] = tuple(replacement)
    scaled = [block for block in chosen if block in changed]
    copy = rebuild(model, changed, gone=set(chosen) - set(scaled))
    if not scaled:
        _mark(copy, model, [block for block in found if block not in chosen], chosen)
    return copy


def _mark(copy, model, kept, removed):
    """Gives a copy the specs of the networks in the model, without the removed blocks."""
    for base in find_bases(model):
        inside = set(base.layers)
        blocks = ([block for block in each if block in inside] for each in (kept, removed))
        spec = _spec(base.origin.spec, *blocks)
        if spec is not None and not base.missing:
            mark_copy(copy, base, spec)


def se_blocks(model: keras.Model) -> list[SqueezeExcite]:
    """The SE blocks of a functional model, in the order of the graph, also those of models within
    it.

    Raises:
        ValueError: if it has none, or is not functional.
    """
    every = [layer for graph in graphs.graphs(model) for layer in graph.layers]
    return check_found(model, [layer for layer in every if isinstance(layer, SqueezeExcite)])


def choose(
    found: list[SqueezeExcite],
    stages: Collection[int] | None = None,
    blocks: Collection[str] | None = None,
) -> list[SqueezeExcite]:
    """Those of the blocks found that are in some stages, or have some names.

    Raises:
        ValueError: for both, and for a stage or a name without a block.
    """
    if stages is not None and blocks is not None:
        raise ValueError(
            f"Pass `stages` or `blocks`. Received: stages={stages!r}, blocks={blocks!r}"
        )
    if blocks is not None:
        return _select("blocks", blocks, {block: block.name for block in found})
    if stages is not None:
        return _select(
            "stages", stages, {block: graphs.stage_number(block.name) for block in found}
        )
    return found


def _select(argument, wanted, names):
    known = sorted({name for name in names.values() if name is not None})
    known_all = isinstance(wanted, (list, tuple, set, range)) and all(
        isinstance(each, (str, numbers.Integral)) and each in known for each in wanted
    )
    if not known_all or not wanted:
        listed = ", ".join(map(str, known)) or "none"
        raise ValueError(
            f"`{argument}` must name {argument} with SE blocks ({listed}). "
            f"Received: {argument}={wanted}"
        )
    return [block for block, name in names.items() if name in wanted]


def _constants(model, chosen, source):
    """The constant gate of each block, float64 (C,)."""
    if isinstance(source, dict):
        missing = [block.name for block in chosen if block.name not in source]
        if missing:
            raise ValueError(
                f"`constant_from` must have the gates of each block. It has none of {missing[0]!r}"
            )
        gates = {block: np.asarray(source[block.name], "float64").reshape(-1) for block in chosen}
    else:
        gates = mean_gates(model, chosen, source)
    for block, gate in gates.items():
        if gate.shape != (block.expand.filters,) or not np.isfinite(gate).all():
            raise ValueError(
                f"The gates of {block.name!r} must be {block.expand.filters} finite numbers. "
                f"Received: shape {gate.shape}, {np.isfinite(gate).sum()} of them finite"
            )
    return gates


def _with_factor(graph, block, changed, gate):
    """(a layer, what takes its place, its weights): the layer before the block, or the block."""
    layer = _linear_before(graph, block, gate)
    if layer is None or layer in changed:
        return block, *_scale(block, gate)
    if isinstance(layer, graphs.NORMALIZATIONS):
        return layer, with_config(layer, scale=True), _scale_normalization(layer, gate)
    return (
        layer,
        with_config(layer),
        [_times(weight, gate) for weight in layer.get_weights()],
    )


def _linear_before(graph, block, gate):
    """The layer that can multiply its output by the gate, with the same effect; or None."""
    positive = bool((gate >= 0).all())
    node = graph.call(block)
    while node is not None:
        consumer, node = node, graph.producer(node.input_tensors[0])
        if graph.consumer(node) is not consumer:
            return None
        layer = node.operation
        if type(layer) in graphs.CONVOLUTIONS:
            return layer if layer.activation in (LINEAR, RELU)[: 1 + positive] else None
        if type(layer) in graphs.NORMALIZATIONS:
            is_over = graphs.over_channels(layer, node.outputs[0], block.data_format)
            return layer if is_over else None
        if not (positive and _is_relu(layer)):
            return None
    return None


def _is_relu(layer):
    """Whether it is f with f(g x) = g f(x) for each g of at least 0."""
    if type(layer) is layers.ReLU:
        return layer.max_value is None and layer.threshold == 0
    return type(layer) is layers.Activation and layer.activation is RELU


def _scale_normalization(norm, gate):
    """Weights of the batch normalisation, with a gamma, times the gate."""
    weights = {weight.name: keras.ops.convert_to_numpy(weight) for weight in norm.weights}
    affine = {"gamma": np.ones_like(weights["moving_mean"])} | weights
    return [
        _times(value, gate) if name in ("gamma", "beta") else value
        for name, value in affine.items()
    ]


def _times(weight, gate):
    """A weight whose last axis is the channels, times the gate: in float64, rounded once."""
    return (weight.astype("float64") * gate).astype(weight.dtype)


def _scale(block, gate):
    layer = layers.DepthwiseConv2D(
        1,
        use_bias=False,
        data_format=block.data_format,
        dtype=block.dtype_policy,
        name=f"{block.name}_gate",
    )
    return layer, [gate.astype("float32").reshape(1, 1, -1, 1)]


def _spec(spec, kept, removed):
    stages = {graphs.stage_number(block.name) for block in kept}
    if (
        spec is None
        or spec.se is None
        or None in stages
        or stages & {graphs.stage_number(block.name) for block in removed}
    ):
        return None
    return dataclasses.replace(
        spec, se=dataclasses.replace(spec.se, stages=tuple(sorted(stages))) if kept else None
    )
