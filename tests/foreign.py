"""Files of other frameworks, written byte by byte: what PyTorch and Caffe write, and what they never would."""

import io
import re
import struct
import zipfile

import numpy as np

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of torch.serialization.MAGIC_NUMBER
KINDS = {"float32": "FloatStorage", "int64": "LongStorage"}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key, shape, kind="FloatStorage", count=None, offset=0, strides=None, stream=False):
    """The pickle of a tensor, as torch.save writes it."""
    count = int(np.prod(shape)) if count is None else count
    strides = strides or [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count)
    storage += (b"N" if stream else b"") + b"tQ"
    rest = number(offset) + numbers(shape) + numbers(strides) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def pickle(tensors):
    """The pickle of a state dict whose tensors are pickled already."""
    items = b"".join(text(name) + value for name, value in tensors.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def zipped(files, root="archive", compression=zipfile.ZIP_STORED):
    """A zip archive of files by their names below the root."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"{root}/{name}", content)
    return target.getvalue()


def pth(arrays):
    """A state dict in the zip format."""
    tensors = {name: tensor(str(i), a.shape, KINDS[a.dtype.name]) for i, (name, a) in enumerate(arrays.items())}
    storages = {f"data/{i}": array.tobytes() for i, array in enumerate(arrays.values())}
    return zipped({"data.pkl": pickle(tensors), "byteorder": b"little", **storages, "version": b"3\n"})


def stream(arrays, machine=b"\x80\x02}X\r\x00\x00\x00little_endian\x88s."):
    """A state dict in the stream format of 2018."""
    tensors = {
        name: tensor(str(i), a.shape, KINDS[a.dtype.name], stream=True) for i, (name, a) in enumerate(arrays.items())
    }
    keys = b"\x80\x02](" + b"".join(text(str(i)) for i in range(len(arrays))) + b"e."
    storages = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays.values())
    return MAGIC + b"\x80\x02M\xe9\x03." + machine + pickle(tensors) + keys + storages


def torch_state(model):
    """The weights of a ResNet here under timm's legacy names, in PyTorch's layout."""
    rows = (
        (r"^stem_(conv\d)_bn", lambda m: "layer0." + m[1].replace("conv", "bn")),
        (r"^stem_(conv\d)", r"layer0.\1"),
        (r"^stage(\d)_block(\d+)_", lambda m: f"layer{int(m[1]) - 1}.{int(m[2]) - 1}."),
        (r"\.conv(\d)_bn", r".bn\1"),
        (r"\.shortcut_bn", ".downsample.1"),
        (r"\.shortcut", ".downsample.0"),
        (r"\.se_reduce", ".se_module.fc1"),
        (r"\.se_expand", ".se_module.fc2"),
        (r"^predictions", "last_linear"),
        (r"/(kernel|gamma)$", ".weight"),
        (r"/(bias|beta)$", ".bias"),
        (r"/moving_mean$", ".running_mean"),
        (r"/moving_variance$", ".running_var"),
    )
    return {_renamed(variable, rows): _torch_layout(variable.numpy()) for variable in model.weights}


def caffe_layers(model, stems=None):
    """The weights of a ResNet here as blobs of the authors' layers, with a factor of 2 for the statistics."""
    stems = stems or {"stem_conv1": "conv1/7x7_s2"}
    rows = (
        *((f"^{ours}", theirs) for ours, theirs in stems.items()),
        (r"^stage(\d)_block(\d+)_", r"conv\1_\2_"),
        (r"_conv1(?=[_/])", "_1x1_reduce"),
        (r"_conv2(?=[_/])", "_3x3"),
        (r"_conv3(?=[_/])", "_1x1_increase"),
        (r"_shortcut", "_1x1_proj"),
        (r"_se_reduce", "_1x1_down"),
        (r"_se_expand", "_1x1_up"),
        (r"^predictions", "classifier"),
        (r"_bn/(gamma|beta)$", r"/bn/scale/\1"),
        (r"_bn/(moving_\w+)$", r"/bn/\1"),
    )
    layers = {}
    for variable in model.weights:
        layer, _, kind = _renamed(variable, rows).rpartition("/")
        array = _torch_layout(variable.numpy())
        if layer == stems["stem_conv1"] and kind == "kernel":
            array = np.ascontiguousarray(array[:, ::-1])
        layers.setdefault(layer, []).append(2 * array if kind.startswith("moving") else array)
        if kind == "moving_variance":
            layers[layer].append(np.array([2], "float32"))
    return layers


def _renamed(variable, rows):
    name = "/".join(variable.path.split("/")[-2:])
    for pattern, replacement in rows:
        name = re.sub(pattern, replacement, name)
    return name


def _torch_layout(array):
    return np.ascontiguousarray(array.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]))


def field(number, content):
    """A field of protobuf's wire format that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    content = bytearray()
    while value >= 128:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes([*content, value])


def blob(array, shape=None):
    dims = b"".join(map(varint, array.shape if shape is None else shape))
    return field(7, field(1, dims)) + field(5, array.tobytes())


def caffemodel(layers):
    """A NetParameter with the blobs of its layers."""
    described = (
        field(1, name.encode()) + field(2, b"Any") + b"".join(field(7, blob(array)) for array in blobs)
        for name, blobs in layers.items()
    )
    return field(1, b"net") + b"".join(field(100, layer) for layer in described)
