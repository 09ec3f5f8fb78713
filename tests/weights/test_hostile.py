"""Files that are damaged or made to harm: one clear error, nothing run, and no more memory than the
file is worth.
"""

import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import foreign
import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_senet
from keras_senet.models.resnet import ResNet
from keras_senet.weights import DamagedFileError
from keras_senet.weights.readers import hdf5

KINDS = (".pth", ".stream.pth", ".safetensors", ".caffemodel", ".weights.h5")


def constructor():
    return keras_senet.application(ResNet((1,)), name="tiny", input_size=32, classes=10)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A good file of each kind."""
    folder = tmp_path_factory.mktemp("good")
    model = constructor()(weights=None)
    state = foreign.torch_state(model)
    (folder / "a.pth").write_bytes(foreign.pth(state))
    (folder / "a.stream.pth").write_bytes(foreign.stream(state))
    (folder / "a.caffemodel").write_bytes(foreign.caffemodel(foreign.caffe_layers(model)))
    save_file(state, folder / "a.safetensors")
    keras_senet.save_weights(model, folder / "a.weights.h5")
    return {kind: (folder / f"a{kind}").read_bytes() for kind in KINDS}


def read_all(path):
    with foreign.open_file(path) as file:
        return {name: entry.read() for name, entry in file.entries.items()}


def refused(content, kind, folder, message="damaged, or not a|cannot be loaded"):
    """Loading raises one error that names the file, and takes little memory to find out."""
    path = folder / f"bad{kind}"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as error:
            read_all(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert peak < 20_000_000 + 6 * len(content)
    with pytest.raises(ValueError, match="bad"):
        constructor()(weights=path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_files_load(files, kind, tmp_path):
    (tmp_path / f"a{kind}").write_bytes(files[kind])
    constructor()(weights=tmp_path / f"a{kind}")


@pytest.mark.parametrize("part", [0, 0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file(files, kind, part, tmp_path):
    refused(files[kind][: int(part * len(files[kind]))], kind, tmp_path)


@pytest.mark.parametrize("kind", [".pth", ".stream.pth", ".safetensors", ".weights.h5"])
def test_a_file_with_something_behind_it(files, kind, tmp_path):
    if kind in (
        ".pth",
        ".weights.h5",
    ):  # these formats allow it: what counts is found from the end, or by address
        (tmp_path / f"a{kind}").write_bytes(files[kind] + (b"x" if kind == ".weights.h5" else b""))
        constructor()(weights=tmp_path / f"a{kind}")
    else:
        refused(files[kind] + b"x", kind, tmp_path)


@pytest.mark.parametrize("kind", [".pth", ".safetensors", ".caffemodel", ".weights.h5"])
def test_a_web_page_saved_as_weights(kind, tmp_path):
    refused(
        b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
        kind,
        tmp_path,
        "looks like a web page",
    )


class Harm:
    """An object whose pickle runs a command."""

    def __init__(self, path):
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("stream", [False, True])
def test_a_pickle_that_runs_a_command(protocol, stream, tmp_path):
    harm = pickle.dumps({"layer0.conv1.weight": Harm(tmp_path / "harmed")}, protocol)
    content = (
        foreign.MAGIC + b"\x80\x02M\xe9\x03." + harm
        if stream
        else foreign.zipped({"data.pkl": harm})
    )
    refused(content, ".pth", tmp_path)
    assert not (tmp_path / "harmed").exists()


GOOD = foreign.tensor("0", (2,))
PICKLES = {
    "another function": b"\x80\x02cbuiltins\neval\n" + foreign.text("1") + b"\x85R.",
    "a function of an allowed module": b"\x80\x02ctorch._utils\n_import_dotted_name\n"
    + foreign.text("os")
    + b"\x85R.",
    "an attribute of an allowed function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
    "a class through NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "INST": b"\x80\x02(ios\nsystem\n.",
    "a persistent id in text": b"\x80\x02Pstorage\n.",
    "a string of four gigabytes": b"\x80\x02X\xff\xff\xff\xff",
    "a memo of four gigabytes": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytes of eight exabytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    "a number of two gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f",
    "a frame of exabytes": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "an empty stack": b"\x80\x02.",
    "marks without end": b"\x80\x02" + 100_000 * b"(",
    "a tuple without a mark": b"\x80\x02t.",
    "an unknown memo": b"\x80\x02h\x05.",
    "items of a tuple": b"\x80\x02)" + foreign.text("a") + b"Ns.",
    "keys that are not strings": b"\x80\x02}" + b"K\x01K\x02s.",
    "a call of a string": b"\x80\x02" + foreign.text("a") + b")R.",
    "a call of a dtype": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "a dictionary from pairs": b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
    "a tensor of nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "not tensors": b"\x80\x02}" + foreign.text("a") + b"K\x01s.",
    "no tensors": b"\x80\x02}.",
    "two objects": b"\x80\x02}}.",
    "more numbers than there are": foreign.pickle(
        {"a": foreign.tensor("0", (2**20, 2**10), count=2)}
    ),
    "strides of zero": foreign.pickle(
        {"a": foreign.tensor("0", (2**30, 2**30), count=2, strides=(0, 0))}
    ),
    "strides beyond the end": foreign.pickle({"a": foreign.tensor("0", (2,), strides=(2,))}),
    "negative strides": foreign.pickle({"a": foreign.tensor("0", (2,), strides=(-1,))}),
    "negative sizes": foreign.pickle({"a": foreign.tensor("0", (-2,), count=2, strides=(1,))}),
    "a storage larger than any": foreign.pickle(
        {"a": GOOD.replace(foreign.number(2), b"\x8a\t" + 8 * b"\xff" + b"\0", 1)}
    ),
    "many axes": foreign.pickle({"a": foreign.tensor("0", (1,) * 9, count=1)}),
    "a product of many digits": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("
        + foreign.text("storage")
        + b"ctorch\nFloatStorage\n"
        b"" + foreign.text("0") + foreign.text("cpu") + foreign.number(2) + b"tQK\x00"
        b"(\x8a\xff" + 254 * b"\xff" + b"\x7fq\x00" + 10_000 * b"h\x00" + b"tq\x01h\x01tR."
    ),
    "a large stride of one number": foreign.pickle(
        {"a": foreign.tensor("0", (1,), count=2)}
    ).replace(b"(" + foreign.number(1) + b"t\x89", b"(\x8a\t" + 8 * b"\xff" + b"\x7ft\x89"),
    "many arguments": (
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + b"(" + 50_000 * b"N" + b"tR."
    ),
    "many instructions": b"\x80\x02" + 1_000_000 * b"}" + b".",
    "a negative storage": foreign.pickle({"a": foreign.tensor("0", (0,), count=-1)}),
    "an offset beyond the end": foreign.pickle({"a": foreign.tensor("0", (2,), offset=1)}),
    "another type of storage": foreign.pickle(
        {"a": foreign.tensor("0", (2,), kind="QInt8Storage")}
    ),
    "a storage that is not there": foreign.pickle({"a": foreign.tensor("7", (2,))}),
    "a storage elsewhere": foreign.pickle({"a": foreign.tensor("../../etc/passwd", (2,))}),
    "a storage of two lengths": foreign.pickle(
        {"a": GOOD, "b": foreign.tensor("0", (1,), count=1)}
    ),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_torch_does_not_write(name, tmp_path):
    refused(foreign.zipped({"data.pkl": PICKLES[name], "data/0": bytes(8)}), ".pth", tmp_path)
    refused(foreign.MAGIC + b"\x80\x02M\xe9\x03." + PICKLES[name], ".pth", tmp_path)


def test_nested_tuples_take_no_time(tmp_path):
    """As the key of a dictionary, this would be hashed 2^60 times by pickle's own reader."""
    nested = b"\x80\x02}K\x00" + b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(60)) + b"Ns."
    refused(foreign.zipped({"data.pkl": nested}), ".pth", tmp_path)


def archive(**options):
    return foreign.zipped({"data.pkl": foreign.pickle({"a": GOOD}), "data/0": bytes(8)}, **options)


def two_roots():
    content = foreign.pickle({"a": GOOD})
    return foreign.zipped(
        {"one/data.pkl": content, "two/data.pkl": content, "one/data/0": bytes(8)}
    )


ARCHIVES = {
    "a nested path": lambda: archive(root="outer/inner"),
    "a path to elsewhere": lambda: archive(root=".."),
    "a path from the root": lambda: archive(root=""),
    "two folders": two_roots,
    "a file beside the folder": lambda: (
        archive() and foreign.zipped({"../x": b"", "data.pkl": b""})
    ),
    "compressed numbers": lambda: archive(compression=zipfile.ZIP_DEFLATED),
    "a large pickle": lambda: foreign.zipped({"data.pkl": b"\x80\x02" + bytes(5 << 20)}),
    "big-endian numbers": lambda: foreign.zipped(
        {"data.pkl": foreign.pickle({"a": GOOD}), "data/0": bytes(8), "byteorder": b"big"}
    ),
    "a short storage": lambda: foreign.zipped(
        {"data.pkl": foreign.pickle({"a": GOOD}), "data/0": bytes(4)}
    ),
    "a changed storage": lambda: archive().replace(bytes(8), b"\x00\x00\x00\x01" * 2, 1),
    "an empty archive": lambda: b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_torch_does_not_write(name, tmp_path):
    refused(ARCHIVES[name](), ".pth", tmp_path)


def test_a_storage_that_claims_more_than_the_file(tmp_path):
    content = bytearray(archive())
    start = content.index(
        b"PK\x01\x02", content.index(b"PK\x01\x02") + 4
    )  # the second file of the directory
    content[start + 20 : start + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    refused(bytes(content), ".pth", tmp_path)


def safetensors(header, data=b""):
    content = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(content)) + content + data


def entry(shape, start, end, dtype="F32"):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}}


HEADERS = {
    "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "offsets beyond the end": safetensors(entry([2], 0, 8), bytes(4)),
    "offsets backwards": safetensors(entry([2], 8, 0), bytes(8)),
    "a shape that does not match": safetensors(entry([2**30, 2**30], 0, 8), bytes(8)),
    "a shape that overflows": safetensors(entry([2**32, 2**32, 2**32], 0, 8), bytes(8)),
    "a negative size": safetensors(entry([-2], 0, 8), bytes(8)),
    "an unknown type": safetensors(entry([2], 0, 8, "X99"), bytes(8)),
    "a hole": safetensors(entry([2], 8, 16), bytes(16)),
    "a header that is not JSON": safetensors(b"{" * 1000),
    "deep JSON": safetensors(b'{"a":' + b"[" * 100_000),
    "deep metadata": safetensors(
        {"__metadata__": {"keras_senet": "[" * 100_000}, **entry([2], 0, 8)}, bytes(8)
    ),
    "metadata that is not JSON": safetensors(
        {"__metadata__": {"keras_senet": "{"}, **entry([2], 0, 8)}, bytes(8)
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_safetensors_header_that_lies(name, tmp_path):
    refused(HEADERS[name], ".safetensors", tmp_path)


def layer(*blobs, name="conv1"):
    return foreign.field(
        100, foreign.field(1, name.encode()) + b"".join(foreign.field(7, blob) for blob in blobs)
    )


NUMBERS = np.zeros(4, "float32")
MODELS = {
    "fewer numbers than the shape says": layer(foreign.blob(NUMBERS, (5,))),
    "more numbers than the shape says": layer(foreign.blob(NUMBERS, (3,))),
    "a shape of 2^60": layer(foreign.blob(NUMBERS, (2**60,))),
    "a shape that overflows": layer(foreign.blob(NUMBERS, (2**40, 2**40))),
    "a shape of many sizes": layer(foreign.blob(NUMBERS, (1,) * 100)),
    "no shape": layer(foreign.field(5, NUMBERS.tobytes())),
    "half a number": layer(foreign.field(7, foreign.field(1, b"\x01")) + foreign.field(5, b"123")),
    "a length beyond the end": foreign.varint(100 << 3 | 2) + foreign.varint(2**40) + b"x",
    "two layers of one name": layer(foreign.blob(NUMBERS)) + layer(foreign.blob(NUMBERS)),
    "many blobs": layer(*[foreign.blob(NUMBERS)] * 4),
    "many layers": 20_000 * foreign.field(100, b""),
    "layers of 2013": foreign.field(2, b""),
    "statistics without a factor": layer(*[foreign.blob(NUMBERS)] * 2, name="a/bn"),
    "statistics with two factors": layer(
        *[foreign.blob(NUMBERS)] * 2, foreign.blob(NUMBERS[:2]), name="a/bn"
    ),
    "statistics of 0 batches": layer(
        *[foreign.blob(NUMBERS)] * 2, foreign.blob(NUMBERS[:1]), name="a/bn"
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_caffemodel_that_caffe_does_not_write(name, tmp_path):
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(MODELS[name])
    if name.startswith("statistics"):
        from keras_senet.models.resnet import CAFFE
        from keras_senet.weights.names import from_caffe

        with (
            pytest.raises(DamagedFileError, match="batches|one factor"),
            foreign.open_file(path) as file,
        ):
            from_caffe(file.entries, CAFFE, "stem_conv1", np.arange(1000))["a/bn:0"].read()
    else:
        refused(MODELS[name], ".caffemodel", tmp_path)


def test_a_layer_with_another_number_of_blobs(files, tmp_path):
    model = constructor()(weights=None)
    layers = foreign.caffe_layers(model)
    layers["conv2_1_1x1_reduce"].append(np.zeros(64, "float32"))
    (tmp_path / "bad.caffemodel").write_bytes(foreign.caffemodel(layers))
    with pytest.raises(ValueError, match="left over: stage2_block1_conv1/bias"):
        constructor()(weights=tmp_path / "bad.caffemodel")


def external(file, folder):
    (folder / "secret").write_bytes(bytes(4 * 64))
    del file["layers/batch_normalization/vars/0"]
    file.create_dataset(
        "layers/batch_normalization/vars/0",
        (64,),
        "f4",
        external=[(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)],
    )


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.zeros(64, "float32")
    del file["layers/batch_normalization/vars/0"]
    file["layers/batch_normalization/vars/0"] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.zeros(64, "float32")
    layout = h5py.VirtualLayout((64,), "f4")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "x", (64,))
    del file["layers/batch_normalization/vars/0"]
    file.create_virtual_dataset("layers/batch_normalization/vars/0", layout)


def compressed(file, folder):
    file.create_dataset("layers/x/vars/0", (2**28,), "f4", chunks=(2**20,), compression="gzip")


def unwritten(file, folder):
    file.create_dataset("layers/x/vars/0", (2**40,), "f4")


def deep(file, folder):
    file["layers"].create_group("/".join(200 * ["g"]))


def many(file, folder):
    for i in range(1001):
        file.create_group(f"layers/{i}")


def cyclic(file, folder):
    file["layers/x"] = file["layers"]


def strings(file, folder):
    file["layers/x/vars/0"] = "text"


@pytest.mark.parametrize(
    "change", [external, external_link, virtual, compressed, unwritten, strings, deep, many, cyclic]
)
def test_an_hdf5_file_that_keras_does_not_write(files, change, tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_ITEMS", 1000)  # more take long to be written
    path = tmp_path / "changed.weights.h5"
    path.write_bytes(files[".weights.h5"])
    with h5py.File(path, "a") as file:
        change(file, tmp_path)
    if change is external_link:  # it is not followed: the variable is not there
        with pytest.raises(ValueError, match="missing: stem_conv1_bn/gamma"):
            constructor()(weights=path)
    else:
        refused(
            path.read_bytes(),
            ".weights.h5",
            tmp_path,
            "is not as Keras writes it|more groups and variables",
        )


def test_a_file_that_hdf5_would_read_for_ever(files, tmp_path):
    """A damaged heap makes HDF5 loop over a string of variable length; found by fuzzing. Such
    metadata is not read.
    """
    (tmp_path / "a.weights.h5").write_bytes(files[".weights.h5"])
    with h5py.File(tmp_path / "a.weights.h5", "a") as file:
        file.attrs["keras_senet"] = "{}"
    refused(
        (tmp_path / "a.weights.h5").read_bytes(),
        ".weights.h5",
        tmp_path,
        "not as this package writes it",
    )


def test_a_name_of_many_digits(tmp_path):
    array = {
        f"layer{5000 * '1'}.0.conv1.weight": np.zeros((1, 1), "float32"),
        "layer0.conv1.weight": np.zeros(1, "float32"),
    }
    (tmp_path / "a.pth").write_bytes(foreign.pth(array))
    with pytest.raises(ValueError, match=r"do not fit|no classifier"):
        constructor()(weights=tmp_path / "a.pth")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"weights='.*gone.pth'"):
        constructor()(weights=tmp_path / "gone.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ValueError, match=r"weights='.*folder.pth'"):
        constructor()(weights=tmp_path / "folder.pth")
    with (
        pytest.raises(ValueError, match=r"must end in one of .*\.txt"),
        foreign.open_file(tmp_path / "a.txt"),
    ):
        pass


@pytest.mark.parametrize(("libver", "address"), [("earliest", 48), ("v108", 20), ("latest", 20)])
def test_hdf5_takes_no_memory_by_what_the_file_says_of_a_driver(
    tmp_path, monkeypatch, libver, address
):
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file["layers/conv2d/vars/0"] = np.ones(4, "float32")
    with foreign.open_file(path) as found:
        assert list(found.entries) == ["layers/conv2d/vars/0"]
    content = bytearray(path.read_bytes())
    content[address : address + 8] = (64).to_bytes(8, "little")
    path.write_bytes(content)
    monkeypatch.setattr(h5py, "File", None)  # HDF5 itself would take 1.3 GB for some such files
    with pytest.raises(DamagedFileError, match="its beginning is not"), foreign.open_file(path):
        pass
