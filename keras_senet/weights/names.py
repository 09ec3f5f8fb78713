"""The names and layouts of weights in files of others, turned into this package's.

A weight's name here is its layer's and its own: "stage3_block2_conv1/kernel",
"stage3_block2_se_reduce/bias". A table is rows of (a layer's name in the file, as a regular
expression; its name here).
"""

import re
from collections import Counter
from functools import cache

import numpy as np

from keras_senet.layers import SqueezeExcite
from keras_senet.weights.readers import DamagedFileError, Entry, UnsupportedFileError

STATISTICS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
LAYER = {"weight": "kernel", "bias": "bias"}
SE_LAYERS = ("_se_reduce", "_se_expand")

TORCH_UNIT = (
    (r"(stage.*)\.conv(\d)", r"\1_conv\2"),
    (r"(stage.*)\.bn(\d)", r"\1_conv\2_bn"),
    (r"(stage.*)\.(?:se|se_module)\.fc(?:1|\.0)", r"\1_se_reduce"),  # fc.0: moskomule/senet.pytorch
    (r"(stage.*)\.(?:se|se_module)\.fc(?:2|\.2)", r"\1_se_expand"),
)
# The authors' networks as ported by Cadene, timm's legacy_*: timm/models/senet.py
LEGACY = (
    (r"layer0\.conv(\d)", r"stem_conv\1"),
    (r"layer0\.bn(\d)", r"stem_conv\1_bn"),
    *TORCH_UNIT,
    (r"(stage.*)\.downsample\.0", r"\1_shortcut"),
    (r"(stage.*)\.downsample\.1", r"\1_shortcut_bn"),
    (r"last_linear", r"predictions"),
)
# The authors' Caffe networks
CAFFE = (
    (r"conv1/7x7_s2", r"stem_conv1"),
    (r"conv1_(\d)/3x3(?:_s2)?", r"stem_conv\1"),
    (r"(stage.*)_1x1_reduce", r"\1_conv1"),
    (r"(stage.*)_3x3", r"\1_conv2"),
    (r"(stage.*)_1x1_increase", r"\1_conv3"),
    (r"(stage.*)_1x1_proj", r"\1_shortcut"),
    (r"(stage.*)_1x1_down", r"\1_se_reduce"),
    (r"(stage.*)_1x1_up", r"\1_se_expand"),
    (r"conv2/3x3_reduce", r"stage2_conv1"),
    (r"conv2/3x3", r"stage2_conv2"),
    (r"(stage.*)/1x1", r"\1_1x1"),
    (r"(stage.*)/3x3_reduce", r"\1_3x3_reduce"),
    (r"(stage.*)/3x3", r"\1_3x3_conv1"),
    (r"(stage.*)/double3x3_reduce", r"\1_double_reduce"),
    (r"(stage.*)/double3x3a", r"\1_double_conv1"),
    (r"(stage.*)/double3x3b", r"\1_double_conv2"),
    (r"(stage.*)/pool_proj", r"\1_pool_proj"),
    (r"classifier", r"predictions"),
)
# The authors name Inception's modules by the size of their input, this package by that of their
# output.
INCEPTION = {
    "inception_3a": "stage3_block1",
    "inception_3b": "stage3_block2",
    "inception_3c": "stage4_block1",
    "inception_4a": "stage4_block2",
    "inception_4b": "stage4_block3",
    "inception_4c": "stage4_block4",
    "inception_4d": "stage4_block5",
    "inception_4e": "stage5_block1",
    "inception_5a": "stage5_block2",
    "inception_5b": "stage5_block3",
}


@cache
def later(stem, pooled_shortcut):
    """The table of timm/models/resnet.py: for so many convolutions in the stem, shortcuts with or
    without a pooling.
    """
    first = 1 if pooled_shortcut else 0
    deep = [
        row
        for i in range(3)
        for row in (
            (rf"conv1\.{3 * i}", f"stem_conv{i + 1}"),
            (rf"conv1\.{3 * i + 1}", f"stem_conv{i + 1}_bn"),
        )
    ]
    return (
        *(deep if stem > 1 else [(r"conv1", "stem_conv1")]),
        (r"bn1", f"stem_conv{stem}_bn"),
        *TORCH_UNIT,
        (rf"(stage.*)\.downsample\.{first}", r"\1_shortcut"),
        (rf"(stage.*)\.downsample\.{first + 1}", r"\1_shortcut_bn"),
        (r"fc", r"predictions"),
    )


def own_name(variable):
    """The name of a variable of a model here."""
    return "/".join(variable.path.split("/")[-2:])


def torch_family(names):
    """ "legacy" or "later": which of timm's two ways to name things a file uses; None is neither."""
    if "layer0.conv1.weight" in names:
        return "legacy"
    if "bn1.weight" in names and any(re.match(r"layer1\.0\.", name) for name in names):
        return "later"
    return None


def from_torch(entries, table):
    """PyTorch's entries by the names here, in Keras' layout; those that the table does not have
    keep their names.
    """
    return _unique(
        _torch_entry(name, entry, table)
        for name, entry in entries.items()
        if not _counts_batches(name)
    )


def _counts_batches(name):
    return name.endswith(".num_batches_tracked")  # since PyTorch 0.4.1; Keras has no such number


def _torch_entry(name, entry, table):
    layer, _, variable = name.rpartition(".")
    layer = re.sub(
        r"layer([1-9]\d?)\.(\d{1,3})", lambda m: f"stage{int(m[1]) + 1}_block{int(m[2]) + 1}", layer
    )
    layer = _translate(layer, table)
    variables = STATISTICS if layer and layer.endswith("_bn") else LAYER
    if layer is None or variable not in variables:
        return name, entry
    if (
        layer.endswith(SE_LAYERS) and len(entry.shape) == 2
    ):  # a Linear in place of a 1x1 convolution
        entry = entry.reshape((*entry.shape, 1, 1))
    return f"{layer}/{variables[variable]}", keras_layout(entry)


def lacks_se_biases(names):
    """Whether there are SE blocks among weights, by their names here, and none with a bias."""
    kinds = {
        kind
        for layer, _, kind in (name.rpartition("/") for name in names)
        if layer.endswith(SE_LAYERS)
    }
    return bool(kinds) and "bias" not in kinds


def _translate(layer, table):
    """The name here of a layer of the file, or None."""
    for pattern, name in table:
        if match := re.fullmatch(pattern, layer):
            return match.expand(name)
    return None


def keras_layout(entry):
    """(out, in, height, width) -> (height, width, in, out); (out, in) -> (in, out); anything else
    as it is.
    """
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(entry.shape))
    return entry.transpose(axes) if axes else entry


def from_caffe(entries, order):
    """The authors' entries by the names here, for RGB and with the classes in the standard order.

    Args:
        entries: the blobs of layers, "conv1/7x7_s2:0".
        order: for each class of the standard order its place in the authors'.
    """
    entries = _without_factors(entries)
    named = _unique(_caffe_entry(name, entry) for name, entry in entries.items())
    stem = named.get("stem_conv1/kernel")
    if stem and len(stem.shape) == 4:
        named["stem_conv1/kernel"] = stem.apply(lambda kernel: kernel[:, :, ::-1])  # BGR
    for name in ("predictions/kernel", "predictions/bias"):
        if name in named and named[name].shape[-1] == len(order):
            named[name] = named[name].apply(lambda array: array[..., order])
    return named


def _without_factors(entries):
    """Batch normalisation's mean and variance divided by the factor that Caffe keeps beside them."""
    found = dict(entries)
    for layer in dict.fromkeys(name.rpartition(":")[0] for name in entries):
        if layer.endswith("/bn"):
            mean, variance, factor = (found.pop(f"{layer}:{i}", None) for i in range(3))
            if mean is None or variance is None or factor is None or factor.shape not in ((), (1,)):
                raise DamagedFileError(
                    f"{layer[:80]!r} does not have a mean, a variance and one factor"
                )
            found |= {
                f"{layer}:{i}": _divided(entry, factor, layer)
                for i, entry in enumerate((mean, variance))
            }
    return found


def _divided(entry, factor, layer):
    def read():
        value = factor.read().reshape(())
        if not value > 0:
            raise DamagedFileError(f"the statistics of {layer[:80]!r} are of {value} batches")
        return entry.read() / value

    return Entry(entry.shape, read)


def _caffe_entry(name, entry):
    layer, _, number = name.rpartition(":")
    normalised, variables = layer.removesuffix("/bn"), ("moving_mean", "moving_variance")
    if layer.endswith("/bn/scale"):
        normalised, variables = layer.removesuffix("/bn/scale"), ("gamma", "beta")
    suffix = "_bn" if normalised != layer else ""
    variables = variables if suffix else ("kernel", "bias")
    unit = re.sub(r"inception_\d[a-e]", lambda m: INCEPTION.get(m[0], m[0]), normalised)
    unit = re.sub(r"conv([2-5])_(\d{1,3})(?=_)", r"stage\1_block\2", unit)
    found = _translate(unit, CAFFE)
    if found is None or int(number) >= len(variables):
        return name, entry
    return f"{found}{suffix}/{variables[int(number)]}", keras_layout(entry)


def from_keras(entries, model):
    """Keras' entries by the names here: it numbers the layers of a class in the order of the model."""
    names = dict(_keras_places(model))
    return {names.get(place, place): entry for place, entry in entries.items()}


def _keras_places(model):
    counts = Counter()
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        place = f"layers/{kind}" + (f"_{counts[kind]}" if counts[kind] else "")
        counts[kind] += 1
        gate = isinstance(layer, SqueezeExcite)
        for path, part in (
            {"/reduce": layer.reduce, "/expand": layer.expand}.items() if gate else [("", layer)]
        ):
            for i, variable in enumerate(part.weights):
                yield f"{place}{path}/vars/{i}", own_name(variable)


def _snake_case(name):
    """As Keras spells a class in its files: GroupedConv2D is grouped_conv2d."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def from_own(entries):
    """The entries of a `.safetensors` file of this package: "stage3_block2_conv1.kernel"."""
    return _unique((name.replace(".", "/"), entry) for name, entry in entries.items())


def to_own(arrays):
    """Arrays by the names that a `.safetensors` file gets."""
    return {name.replace("/", "."): np.ascontiguousarray(array) for name, array in arrays.items()}


def _unique(pairs):
    named = {}
    for name, entry in pairs:
        if name in named:
            raise UnsupportedFileError(f"two of its weights are {name[:80]!r}")
        named[name] = entry
    return named
