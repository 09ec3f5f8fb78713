"""Files of other frameworks, written byte by byte: what PyTorch and Caffe write, and what they
never would.
"""

import io
import pickle as pickles
import re
import struct
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np

from keras_senet.models.resnet import ResNet
from keras_senet.weights import readers

MAGIC = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of torch.serialization.MAGIC_NUMBER
)
KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int8": "CharStorage",
}
bfloat16 = ml_dtypes.bfloat16
MARKS = [naming.marks for naming in ResNet((1,)).namings.values()]


def open_file(path, part=None):
    """The file as it is opened for a `ResNet`."""
    return readers.open_file(path, part, MARKS)


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
    storage = (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + number(count)
    )
    storage += (b"N" if stream else b"") + b"tQ"
    rest = (
        number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89"
        + b"ccollections\nOrderedDict\n)R"
    )
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


class Global:
    """A name in a pickle, without what it names: `Global("torch", "FloatStorage")`."""

    def __init__(self, module, name):
        self.name = (module, name)

    def __call__(self):
        raise AssertionError(f"{self.name} is not to be called")


class Called:
    """What a pickle makes by calling a name: `Called("torch", "device", "cpu")`."""

    def __init__(self, module, name, *arguments):
        self.function, self.arguments = Global(module, name), arguments

    def __reduce__(self):
        return self.function, self.arguments


class Strided:
    """A tensor that is a part of another array's storage, as `array[...]` of NumPy is one."""

    def __init__(self, storage, shape, strides, offset=0):
        self.storage, self.rest = storage, (offset, shape, strides)


class Pickler(pickles._Pickler):
    """Writes what torch.save does: arrays as tensors, each with a storage of its own."""

    dispatch = dict(pickles._Pickler.dispatch)  # noqa: RUF012

    def __init__(self, file, protocol, stream):
        super().__init__(file, protocol)
        self.stream = stream
        self.storages = {}  # by the array's identity: its key and itself

    def save_name(self, value):
        module, name = value.name
        self.write(f"c{module}\n{name}\n".encode())
        self.memoize(value)

    dispatch[Global] = save_name

    def reducer_override(self, value):
        if isinstance(value, np.ndarray):
            value = Strided(
                value,
                value.shape,
                [n // value.itemsize for n in np.empty(value.shape, value.dtype).strides],
            )
        if not isinstance(value, Strided):
            return NotImplemented
        offset, shape, strides = value.rest
        storage = Block(value.storage)
        arguments = (
            storage,
            offset,
            tuple(shape),
            tuple(strides),
            False,
            Called("collections", "OrderedDict"),
        )
        return Global("torch._utils", "_rebuild_tensor_v2"), arguments

    def persistent_id(self, value):
        if not isinstance(value, Block):
            return None
        array = value.array
        key, _ = self.storages.setdefault(id(array), (str(len(self.storages)), array))
        kind = Global("torch", KINDS[array.dtype.name])
        return ("storage", kind, key, "cpu", array.size, *([None] if self.stream else []))


class Block:
    """The storage of an array."""

    def __init__(self, array):
        self.array = array


def torch_save(content, stream=False, protocol=2):
    """A file with any content, in which arrays are tensors: in the zip format, or in the stream
    format of 2018.
    """
    file = io.BytesIO()
    pickler = Pickler(file, protocol, stream)
    pickler.dump(content)
    storages = dict(pickler.storages.values())
    if stream:
        keys = pickles.dumps(list(storages), 2)
        blocks = b"".join(
            struct.pack("<q", array.size) + array.tobytes() for array in storages.values()
        )
        return (
            MAGIC
            + b"\x80\x02M\xe9\x03."
            + pickles.dumps({"little_endian": True}, 2)
            + file.getvalue()
            + keys
            + blocks
        )
    blocks = {f"data/{key}": array.tobytes() for key, array in storages.items()}
    return zipped(
        {"data.pkl": file.getvalue(), "byteorder": b"little", **blocks, "version": b"3\n"}
    )


def pth(arrays):
    """A state dict in the zip format."""
    return torch_save(OrderedDict(arrays))


def stream(arrays):
    """A state dict in the stream format of 2018."""
    return torch_save(OrderedDict(arrays), stream=True)


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
    """The weights of a ResNet here as blobs of the authors' layers, with a factor of 2 for the
    statistics.
    """
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
        field(1, name.encode())
        + field(2, b"Any")
        + b"".join(field(7, blob(array)) for array in blobs)
        for name, blobs in layers.items()
    )
    return field(1, b"net") + b"".join(field(100, layer) for layer in described)
