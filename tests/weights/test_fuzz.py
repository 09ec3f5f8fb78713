"""Mutated files of every kind are read, or refused in one of two ways, in no time, and nothing in
them is executed.

`pytest -m slow -n0 -s -k fuzz` goes through 100,000 a reader; `python tests/weights/test_fuzz.py
KIND` through one's.
"""

import argparse
import codecs
import collections
import datetime
import io
import pathlib
import random
import resource
import sys
import tempfile
import time
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # as a program
import foreign

from keras_senet.weights.metadata import METADATA
from keras_senet.weights.readers import DamagedFileError, UnsupportedFileError

FILES, SOME = 100_000, 200
SECONDS = 1
NUMBERS = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
# What happens when code is loaded or run, by the names that Python's audit hooks have for it
FORBIDDEN = (
    "import",
    "exec",
    "compile",
    "pickle.find_class",
    "os.",
    "subprocess.",
    "socket.",
    "ctypes.",
    "marshal.",
)
HARMLESS = ("os.listdir", "os.scandir")
watched, happened = False, set()


def watch(event, arguments):
    if watched and event.startswith(FORBIDDEN) and event not in HARMLESS:
        happened.add(f"{event} {arguments[0]}" if event == "import" else event)


sys.addaudithook(watch)
for codec in (
    "ascii",
    "latin_1",
    "utf_8",
    "unicode_escape",
    *(f"utf_{n}_{e}e" for n in (16, 32) for e in "lb"),
):
    codecs.lookup(codec)  # Python imports them when it first needs them

WEIGHTS = {
    "layer0.conv1.weight": np.ones((2, 3), "float32"),
    "layer0.bn1.num_batches_tracked": np.array(3),
    "last_linear.bias": np.zeros(2, "float32"),
}
LATER = {
    "module.bn1.weight": np.ones(3, "float16"),
    "module.layer1.0.se.fc.0.weight": np.ones((2, 3), foreign.bfloat16),
    "module.layer1.0.se.fc.2.weight": np.ones((3, 2), "float64"),
}
BESIDE = {
    "epoch": 90,
    "args": argparse.Namespace(
        lr=0.1, when=datetime.date(2026, 1, 1), where=pathlib.PurePosixPath("runs")
    ),
    "metric": np.float64(71.2),
    "optimizer": {
        "state": {0: {"exp_avg": np.ones(3, "float32"), "step": 2**70}},
        "param_groups": [{"params": [0]}],
    },
    "tags": {"a", "b"},
    "hook": foreign.Called("os", "system", "true"),
}
LIGHTNING = {
    "pytorch-lightning_version": "2.5.0",
    "callbacks": {
        "ModelCheckpoint{'monitor': None}": {
            "best_model_score": np.array(0.5, "float32"),
            "kth_value": b"1",
        }
    },
    "hyper_parameters": collections.OrderedDict(
        lr=1e-3, device=foreign.Called("torch", "device", "cpu")
    ),
    "state_dict": {f"model.{name.removeprefix('module.')}": array for name, array in LATER.items()},
}
LAYOUTS = (
    collections.OrderedDict(WEIGHTS),
    {"state_dict": WEIGHTS, "state_dict_ema": WEIGHTS, **BESIDE},
    {"model": LATER, **BESIDE},
    LIGHTNING,
    {"generator": WEIGHTS, "discriminator": LATER},
    {"model": foreign.Called("builtins", "eval", "1")},
)
LAYERS = {
    "conv1": [np.ones((2, 3), "float32")],
    "conv1/bn": [np.ones(2, "float32")] * 2 + [np.ones(1, "float32")],
}


def keras_file(folder):
    path = folder / "seed.weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs[METADATA] = np.bytes_('{"spec": {"class": "ResNet"}}')
        for i in range(2):
            file[f"layers/conv2d/vars/{i}"] = np.ones(4, "float32")
    return path.read_bytes()


def safetensors_file(folder, arrays, metadata=None):
    save_file(arrays, folder / "seed.safetensors", metadata=metadata)
    return (folder / "seed.safetensors").read_bytes()


SEEDS = {
    ".pth": lambda _: [
        foreign.torch_save(layout, protocol=p) for layout in LAYOUTS for p in (1, 2, 4)
    ],
    ".stream.pth": lambda _: [foreign.torch_save(layout, stream=True) for layout in LAYOUTS],
    ".safetensors": lambda folder: [
        safetensors_file(
            folder, {"a": np.ones((2, 3), "float32")}, {METADATA: '{"spec": {"class": "ResNet"}}'}
        ),
        safetensors_file(folder, {f"module.{name}": array for name, array in WEIGHTS.items()}),
    ],
    ".caffemodel": lambda _: [foreign.caffemodel(LAYERS)],
    ".weights.h5": lambda folder: [keras_file(folder)],
}

# Pickles of the right instructions in a wrong order go further than damaged ones.
INSTRUCTIONS = [
    *(bytes([code]) for code in b")}](t\x85\x86\x87N\x88\x89RQsuaeb.\x810\x942\x8f\x90\x91\x93od"),
    *(
        foreign.text(value)
        for value in (
            "storage",
            "cpu",
            "0",
            "a",
            "conv.weight",
            "layer0.conv1.weight",
            "os",
            "system",
        )
    ),
    *(foreign.number(value) for value in (0, 1, 2, 3, -1, 2**31 - 1, -(2**31))),
    b"\x8a\x09" + bytes(8) + b"\x01",
    *(code + place for code in (b"q", b"h") for place in (b"\x00", b"\x01")),
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_tensor_v3\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ctorch\nFloatStorage\n",
    b"cos\nsystem\n",
    b"iargparse\nNamespace\n",
    *[foreign.tensor("0", (2,))] * 3,
]


def edited(content, source):
    """The content after a few edits, each at any place."""
    content = bytearray(content)
    for _ in range(source.randint(1, 6)):
        at = source.randint(0, len(content))
        match source.choice(("set", "insert", "number", "delete", "copy", "cut")):
            case "set":
                content[at : at + source.randint(1, 8)] = source.randbytes(source.randint(1, 8))
            case "insert":
                content[at:at] = source.randbytes(source.randint(1, 8))
            case "number":
                size = source.choice((1, 2, 4, 8))
                content[at : at + size] = (source.choice(NUMBERS) % 256**size).to_bytes(
                    size, "little"
                )
            case "delete":
                del content[at : at + source.randint(1, 64)]
            case "copy":
                start = source.randint(0, len(content))
                content[at:at] = content[start : start + source.randint(1, 64)]
            case "cut" if source.random() < 0.2:
                del content[at:]
    return bytes(content)


def edited_inside(content, source):
    """A zip archive whose pickle is edited, so that its checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name.removeprefix("archive/"): archive.read(name) for name in archive.namelist()}
    return foreign.zipped(files | {"data.pkl": edited(files["data.pkl"], source)})


def shuffled(_, source):
    """A zip archive with a pickle of any instructions."""
    instructions = b"".join(source.choices(INSTRUCTIONS, k=source.randint(0, 40)))
    return foreign.zipped({"data.pkl": b"\x80\x02" + instructions + b".", "data/0": bytes(8)})


def mutated(kind, seeds, source):
    edit = source.choice((edited, edited_inside, shuffled)) if kind == ".pth" else edited
    return edit(source.choice(seeds), source)


def read(path):
    """What becomes of a file: "read" to the end, or refused in one of two ways."""
    global watched
    watched = True
    try:
        with foreign.open_file(path) as file:
            for entry in file.entries.values():
                assert entry.read().shape == entry.shape
        return "read"
    except DamagedFileError:
        return "damaged"
    except UnsupportedFileError:
        return "unsupported"
    finally:
        watched = False


def fuzz(kind, folder, files):
    """(outcomes, the slowest file's seconds, MiB by which memory grew) of so many mutated files of
    a kind.
    """
    seeds, source = SEEDS[kind](folder), random.Random(kind)
    path = folder / f"fuzzed{kind}"
    outcomes, slowest = collections.Counter(), 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(files + len(seeds)):
        content = (
            seeds[i] if i < len(seeds) else mutated(kind, seeds, source)
        )  # as they are, for what is imported late
        path.write_bytes(content)
        start = time.process_time()
        try:
            outcome = read(path)
        except BaseException:
            (folder / f"failed{kind}").write_bytes(content)
            raise
        slowest = max(slowest, time.process_time() - start) if i >= len(seeds) else 0
        if i < len(seeds):
            happened.clear()
        else:
            outcomes[outcome] += 1
        assert not happened, happened
    return outcomes, slowest, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def check(kind, folder, files):
    outcomes, slowest, grown = fuzz(kind, folder, files)
    text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    print(
        f"\n{kind}: {files} files: {text}; slowest {1000 * slowest:.0f} ms; memory grew by {grown:.0f} MiB",
        flush=True,
    )
    assert sum(outcomes.values()) == files
    assert slowest < SECONDS
    assert grown < 500


@pytest.mark.parametrize("kind", SEEDS)
def test_mutated_files(kind, tmp_path):
    check(kind, tmp_path, SOME)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEEDS)
def test_fuzz_files(kind, tmp_path):
    check(kind, tmp_path, FILES)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        check(sys.argv[1], pathlib.Path(folder), int(sys.argv[2]) if len(sys.argv) > 2 else FILES)
