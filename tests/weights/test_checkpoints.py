"""What PyTorch trainings leave: which weights of a file are taken, that it is said, and why a file
is refused.

The files are written here byte by byte; test_checkpoints_of_torch.py has torch write them.
"""

import argparse
import collections
import contextlib
import datetime
import pathlib
import pickle
import re
import tarfile
import time
import tracemalloc

import foreign
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_senet.weights import UnsupportedFileError

RANDOM = np.random.default_rng(0)
NAMES = (
    "layer0.conv1.weight",
    "layer1.0.conv1.weight",
    "layer1.0.bn1.running_var",
    "last_linear.weight",
)
PLAIN = {name: RANDOM.normal(size=(4, 3)).astype("float32") for name in NAMES} | {
    "last_linear.bias": np.ones(4, "float32")
}
LATER = {"bn1.weight": np.ones(3, "float32"), "layer1.0.se.fc1.weight": np.ones((2, 3), "float32")}
OTHER = {name: array + 1 for name, array in PLAIN.items()}
BESIDE = {
    "epoch": 90,
    "arch": "seresnet18",
    "best_acc1": np.array(71.2, "float32"),
    "metric": np.float64(71.2),
    "loss": 0.25,
    "big": -(2**70),
    "args": argparse.Namespace(
        lr=0.1, output=pathlib.PurePosixPath("runs"), started=datetime.datetime(2026, 1, 1)
    ),
    "tags": {"a", "b"},
    "frozen": frozenset((1, 2)),
    "raw": b"\x00\x01",
    "complex": 1j,
    "history": collections.deque([0.5, 0.4]),
    "counts": collections.defaultdict(int, {"train": 3}),
    "device": foreign.Called("torch", "device", "cpu"),
    "harm": foreign.Called("os", "system", "exit 1"),
    "optimizer": {
        "state": {0: {"step": np.array(3.0, "float32"), "exp_avg": np.ones((4, 3), "float32")}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1], "foreach": None}],
    },
}


def prefixed(prefix, weights=None):
    return {
        f"{prefix}{name}": array for name, array in (PLAIN if weights is None else weights).items()
    }


def as_dtype(dtype):
    return {name: array.astype(dtype) for name, array in PLAIN.items()}


# What is saved, the words that say what is taken of it, and words that say what else there is
LAYOUTS = {
    "bare": (PLAIN, "", ""),
    "OrderedDict": (collections.OrderedDict(PLAIN), "", ""),
    "module.": (prefixed("module."), "'module.'", ""),
    "_orig_mod.": (prefixed("_orig_mod."), "'_orig_mod.'", ""),
    "model.": (prefixed("model."), "'model.'", ""),
    "timm_model.": (prefixed("timm_model."), "'timm_model.'", ""),
    "nested": (prefixed("module._orig_mod."), "'module._orig_mod.'", ""),
    "unknown prefix": (prefixed("student.trunk."), "'student.trunk.'", ""),
    "numbers beside": (PLAIN | {"epoch": 3, "harm": BESIDE["harm"]}, "", ""),
    "state_dict": ({"state_dict": PLAIN, **BESIDE}, "'state_dict'", ""),
    "last of the dictionary": ({**BESIDE, "state_dict": PLAIN}, "'state_dict'", ""),
    "state_dict, module.": (
        {"state_dict": prefixed("module."), **BESIDE},
        "'state_dict'.*'module.'",
        "",
    ),
    "model": ({"model": PLAIN, **BESIDE}, "'model'", ""),
    "model_state_dict": ({"model_state_dict": PLAIN, "epoch": 3}, "'model_state_dict'", ""),
    "network": ({"network": PLAIN}, "'network'", ""),
    "any name": ({"seresnet": PLAIN, **BESIDE}, "'seresnet'", ""),
    "nested dictionaries": (
        {"checkpoint": {"model": {"state_dict": PLAIN}}},
        "'checkpoint.model.state_dict'",
        "",
    ),
    "in a tuple": ((3, PLAIN), "'1'", ""),
    "timm": (
        {"state_dict": OTHER, "state_dict_ema": PLAIN, **BESIDE},
        "'state_dict_ema'",
        "'FILE#state_dict'",
    ),
    "model_ema": ({"model": OTHER, "model_ema": PLAIN}, "'model_ema'", "'FILE#model'"),
    "averaged by torch": (
        {"model": OTHER, "model_ema": prefixed("module.") | {"n_averaged": np.array(7)}},
        "'model_ema'.*'module.'",
        "'FILE#model'",
    ),
    "ema": (
        {"model": OTHER, "ema": {"decay": 0.999, "shadow": PLAIN}},
        "'ema.shadow'",
        "'FILE#model'",
    ),
    "the usual name first": ({"teacher": OTHER, "model": PLAIN}, "'model'", "'FILE#teacher'"),
    "state_dict before model": (
        {"model": OTHER, "state_dict": PLAIN},
        "'state_dict'",
        "'FILE#model'",
    ),
    "Lightning": (
        {
            "pytorch-lightning_version": "2.5.0",
            "state_dict": prefixed("model.") | {"criterion.weight": np.ones(4, "float32")},
            "callbacks": {
                "ModelCheckpoint{'monitor': None}": {"best_model_score": np.array(1.0, "float32")}
            },
            "loops": {"fit_loop": {"state_dict": {}}},
            "optimizer_states": [BESIDE["optimizer"]],
            "hyper_parameters": {"lr": 0.1, "args": BESIDE["args"]},
        },
        "'state_dict'.*'model.'.*skipped.*'criterion.weight'",
        "",
    ),
    "Lightning with an average": (
        {"state_dict": prefixed("model.", OTHER) | prefixed("ema_model.module.")},
        "'ema_model.module.'",
        "'FILE#state_dict.model'",
    ),
    "half": (as_dtype("float16"), "", ""),
    "bfloat16": (as_dtype(foreign.bfloat16), "", ""),
    "double": (as_dtype("float64"), "", ""),
    "whole numbers of batches": (PLAIN | {"layer0.bn1.num_batches_tracked": np.array(3)}, "", ""),
}


def check_taken(path, taken, others=""):
    """The file's arrays are those of PLAIN, in the precision that they were saved with."""
    rounding = {"half": 1e-3, "bfloat16": 1e-2}.get(path.name.partition(".")[0], 0)
    with foreign.open_file(path) as file:
        assert PLAIN.keys() <= file.entries.keys()
        for name, array in PLAIN.items():
            np.testing.assert_allclose(file.entries[name].read(), array, rtol=rounding, strict=True)
        text = str(file.part)
    assert re.search(rf"{taken}.*{others}", text), text
    assert bool(text) == bool(taken)


@pytest.mark.parametrize("ending", [".pth", ".stream.pt"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_weights_are_found(name, ending, tmp_path):
    content, taken, others = LAYOUTS[name]
    path = tmp_path / f"{name.replace(' ', '_')}{ending}"
    path.write_bytes(foreign.torch_save(content, stream="stream" in ending))
    check_taken(path, taken, others)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_of_pickle(protocol, tmp_path):
    (tmp_path / "a.pth").write_bytes(
        foreign.torch_save({"state_dict": PLAIN, **BESIDE}, protocol=protocol)
    )
    check_taken(tmp_path / "a.pth", "'state_dict'")


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar"])
def test_every_ending(ending, tmp_path):
    (tmp_path / f"a{ending}").write_bytes(foreign.torch_save(PLAIN))
    check_taken(tmp_path / f"a{ending}", "")


@pytest.mark.parametrize("prefix", ["module.", "timm_model.", "model.net."])
def test_safetensors_with_a_prefix(prefix, tmp_path):
    save_file(prefixed(prefix), tmp_path / "a.safetensors")
    check_taken(tmp_path / "a.safetensors", f"'{prefix}'")


def test_python_2_wrote_dictionaries_as_pairs(tmp_path):
    pairs = foreign.Called("collections", "OrderedDict", [list(pair) for pair in PLAIN.items()])
    (tmp_path / "a.pth").write_bytes(foreign.torch_save(pairs, stream=True))
    check_taken(tmp_path / "a.pth", "")


def test_parts_of_storages(tmp_path):
    """A transposed view, one with an offset, two of the same numbers, an empty one: as NumPy has
    them.
    """
    block = np.arange(24, dtype="float32")
    content = {
        "layer0.conv1.weight": foreign.Strided(block, (4, 6), (1, 4)),
        "offset": foreign.Strided(block, (2, 3), (3, 1), 18),
        "same": foreign.Strided(block, (24,), (1,)),
        "repeated": foreign.Strided(block, (3, 2), (0, 1)),
        "empty": np.zeros((0, 3), "float32"),
        "one": np.array(2.5, "float32"),
    }
    (tmp_path / "a.pth").write_bytes(foreign.torch_save(content))
    found = read_all(tmp_path / "a.pth")
    expected = {
        "layer0.conv1.weight": block.reshape(6, 4).T,
        "offset": block[18:].reshape(2, 3),
        "same": block,
        "repeated": np.stack([block[:2]] * 3),
        "empty": content["empty"],
        "one": content["one"],
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


# --- the choice of the user


def test_a_part_is_taken_by_its_name(tmp_path):
    content = {
        "models": {"generator": prefixed("module."), "discriminator": dict(OTHER)},
        "model_ema": OTHER,
    }
    (tmp_path / "a.pth").write_bytes(foreign.torch_save(content))
    for part in ("models.generator", "models.generator.module"):
        with foreign.open_file(tmp_path / "a.pth", part) as file:
            np.testing.assert_array_equal(file.entries[NAMES[0]].read(), PLAIN[NAMES[0]])
    with pytest.raises(
        UnsupportedFileError, match="2 networks: 'models.generator', 'models.discriminator'"
    ):
        foreign.open_file(tmp_path / "a.pth", "models").__enter__()
    with pytest.raises(
        UnsupportedFileError, match="no part 'x'; it has 'model_ema', 'models.generator'"
    ):
        foreign.open_file(tmp_path / "a.pth", "x").__enter__()


# --- refusals


def zipped_npz():
    return foreign.zipped({"weights.npy": b"\x93NUMPY"})


def torch_script():
    return foreign.zipped(
        {
            "data.pkl": b"\x80\x02c__torch__\nNet\n)\x81.",
            "code/__torch__.py": b"",
            "constants.pkl": b"\x80\x02).",
        }
    )


def tarred(folder):
    (folder / "storages").write_bytes(b"")
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(folder / "storages", "storages")
    return (folder / "a.tar").read_bytes()


GAN = {"generator": PLAIN, "discriminator": OTHER, "epoch": 3}
WHOLE = foreign.Called("torchvision.models.resnet", "ResNet")
KERNEL = {"layer0.conv1.weight": foreign.Called("torch._utils", "_rebuild_qtensor", 1)}
REFUSED = {
    "GAN": (foreign.torch_save(GAN), "2 networks: 'generator', 'discriminator'.*'FILE#generator'"),
    "two prefixes": (
        foreign.torch_save(prefixed("student.") | prefixed("teacher.")),
        "2 networks: 'student', 'teacher'.*'FILE#student'",
    ),
    "unknown networks": (
        foreign.torch_save(
            {name: {"conv.weight": np.ones((2, 2), "float32")} for name in ("encoder", "decoder")}
        ),
        "2 networks: 'encoder', 'decoder'",
    ),
    "a whole model": (
        foreign.torch_save(WHOLE),
        "an object of torchvision.models.resnet.ResNet.*state_dict",
    ),
    "a whole model in a dictionary": (
        foreign.torch_save({"epoch": 3, "model": WHOLE}),
        "'epoch' \\(a int\\), 'model' \\(an object of torchvision.models.resnet.ResNet\\)",
    ),
    "no tensors": (
        foreign.torch_save({"epoch": 3}),
        "no dictionary of weights, it is a dictionary of 'epoch'",
    ),
    "an optimizer": (foreign.torch_save(BESIDE["optimizer"]), "no dictionary of weights"),
    "a number": (foreign.torch_save(3), "no dictionary of weights, it is a int"),
    "quantised": (foreign.torch_save(KERNEL), "'layer0.conv1.weight' is quantised"),
    "NumPy arrays": (
        foreign.torch_save(
            {"layer0.conv1.weight": foreign.Called("numpy.core.multiarray", "_reconstruct")}
        ),
        "'layer0.conv1.weight' is a NumPy array",
    ),
    "a pickle of something else": (
        pickle.dumps({"a": 1}, 2),
        "a pickle that torch.save has not written",
    ),
    "TorchScript": (torch_script(), "a TorchScript archive.*state_dict"),
    "another archive": (zipped_npz(), "a zip archive that torch.save has not written.*no data.pkl"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "it is compressed: unpack it first"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "it is an HDF5 file"),
    "safetensors": (b"\x40" + bytes(7) + b'{"a":{"dtype"', "it is a .safetensors file"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


def read_all(path):
    with foreign.open_file(path) as file:
        return {name: entry.read() for name, entry in file.entries.items()}


def check_refused(content, pattern, path):
    path.write_bytes(content)
    with pytest.raises(UnsupportedFileError, match=pattern) as error:
        read_all(path)
    assert "damaged" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_the_reason_is_true(name, tmp_path):
    content, pattern = REFUSED[name]
    check_refused(content, pattern, tmp_path / "a.pth")


def test_the_format_before_2017(tmp_path):
    check_refused(tarred(tmp_path), "a tar archive.*torch.load", tmp_path / "a.pth.tar")


@pytest.mark.parametrize(
    "content", [b"", foreign.torch_save(PLAIN)[:-40], foreign.torch_save(PLAIN, stream=True)[:-1]]
)
def test_a_damaged_file_is_called_so(content, tmp_path):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged, or not a \.ckpt file"):
        foreign.open_file(tmp_path / "a.ckpt").__enter__()


def test_a_dictionary_of_a_tuple_of_pairs(tmp_path):
    """Found by fuzzing: it is not what Python 2 wrote."""
    pairs = foreign.Called("collections", "OrderedDict", tuple(PLAIN.items()))
    (tmp_path / "a.pth").write_bytes(foreign.torch_save(pairs))
    with pytest.raises(ValueError, match="not a list of pairs"):
        read_all(tmp_path / "a.pth")


# --- files that are made to take time or memory


def repeated(count, *parts):
    return b"\x80\x02" + parts[0] + count * parts[1] + b"".join(parts[2:]) + b"."


DICTIONARY = b"ccollections\nOrderedDict\n"
BOMBS = {
    "dictionaries on the stack": repeated(900_000, b"", b"}"),
    "dictionaries in a list": repeated(100_000, b"]", b"}a"),
    "lists in each other": repeated(60_000, b"]q\x000", b"](h\x00eq\x000", b"h\x00"),
    "a list of a list of a list": repeated(
        60, b"]q\x00N0", b"](" + 100 * b"h\x00" + b"eq\x000", b"h\x00"
    ),
    "one list of pairs, again and again": (
        b"\x80\x02]("
        + 5_000 * (foreign.text("a") + b"N\x86")
        + b"e\x85q\x000"
        + DICTIONARY
        + b"q\x010"
        + 50_000 * b"h\x01h\x00R0"
        + b"N."
    ),
    "long names": (
        b"\x80\x04X"
        + (500_000).to_bytes(4, "little")
        + 500_000 * b"a"
        + b"q\x000"
        + 50_000 * b"h\x00h\x00\x930"
        + b"N."
    ),
    "long keys": (
        b"\x80\x02}"
        + b"".join(
            b"X" + (500_000).to_bytes(4, "little") + 500_000 * b"a" + b"q" + bytes([i]) + b"0"
            for i in (0, 1)
        )
        + 20_000 * b"h\x00Nsh\x01Ns"
        + b"."
    ),
    "long numbers as keys": (
        b"\x80\x02}\x8b"
        + (500_000).to_bytes(4, "little")
        + 500_000 * b"\x7f"
        + b"q\x000"
        + 50_000 * b"h\x00Ns"
        + b"."
    ),
    "many arguments": (
        b"\x80\x02("
        + 10_000 * b"N"
        + b"tq\x000"
        + DICTIONARY
        + b"q\x010"
        + 50_000 * b"h\x01h\x00R0"
        + b"N."
    ),
    "functions of functions": (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\x000)"
        + 20_000 * b"q\x010(h\x00Nh\x01Nt"
        + b"q\x010h\x00h\x01R."
    ),
    "prefixes": foreign.pickle({f"{i}.bn1.weight": b"N" for i in range(30_000)}),
    "tensors of one storage": foreign.pickle(
        {f"{i}.layer1.0.a": foreign.tensor("0", (2,)) for i in range(1_000)}
    ),
    "many networks": foreign.pickle(
        {f"{i}.layer0.conv1.weight": foreign.tensor("0", (2,)) for i in range(1_000)}
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_file_takes_long_or_much(name, tmp_path):
    """No more than 3 s of a slow machine, where each took much longer without its limit, and little
    memory.
    """
    (tmp_path / "a.pth").write_bytes(foreign.zipped({"data.pkl": BOMBS[name], "data/0": bytes(8)}))
    tracemalloc.start()
    start = time.process_time()
    try:
        with contextlib.suppress(ValueError):  # some are refused
            read_all(tmp_path / "a.pth")
        taken, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 3
    assert peak < 30_000_000 + 40 * len(BOMBS[name])
