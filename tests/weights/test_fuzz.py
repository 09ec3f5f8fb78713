"""100,000 damaged files of each kind are read or refused with `DamagedFileError`: `pytest -m slow -n0 -s -k fuzz`."""

import resource
import time

import foreign
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from keras_senet.weights.metadata import METADATA
from keras_senet.weights.readers import DamagedFileError, opened

pytestmark = pytest.mark.slow
EXAMPLES = 100_000
ARRAYS = {"a.weight": np.ones((2, 3), "float32"), "b.bias": np.arange(3, dtype="int64"), "c": np.zeros((), "float32")}
NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def keras_file(folder):
    path = folder / "seed.weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs[METADATA] = np.bytes_('{"spec": {"class": "ResNet"}}')
        for i in range(2):
            file[f"layers/conv2d/vars/{i}"] = np.ones(4, "float32")
    return path.read_bytes()


def safetensors_file(folder):
    path = folder / "seed.safetensors"
    floats = {name: array.astype("float32") for name, array in ARRAYS.items()}
    save_file(floats, path, metadata={METADATA: '{"spec": {"class": "ResNet"}}'})
    return path.read_bytes()


LAYERS = {"conv1": [np.ones((2, 3), "float32")], "conv1/bn": [np.ones(2, "float32")] * 2 + [np.ones(1, "float32")]}
SEEDS = {
    ".pth": lambda _: foreign.pth(ARRAYS),
    ".stream.pth": lambda _: foreign.stream(ARRAYS),
    ".safetensors": safetensors_file,
    ".caffemodel": lambda _: foreign.caffemodel(LAYERS),
    ".weights.h5": keras_file,
}

place = st.integers(0, 2**16)
edit = st.one_of(
    st.tuples(st.just("set"), place, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("number"), place, st.tuples(st.sampled_from(NUMBERS), st.sampled_from([1, 2, 4, 8]))),
    st.tuples(st.just("delete"), place, st.integers(1, 64)),
    st.tuples(st.just("copy"), place, st.tuples(place, st.integers(1, 64))),
    st.tuples(st.just("cut"), place, st.none()),
)


def edited(content, edits):
    """The content behind a few edits, each at a place that is counted around."""
    content = bytearray(content)
    for kind, at, value in edits:
        at %= len(content) + 1
        if kind == "set":
            content[at : at + len(value)] = value
        elif kind == "insert":
            content[at:at] = value
        elif kind == "number":
            number, size = value
            content[at : at + size] = (number % 256**size).to_bytes(size, "little")
        elif kind == "delete":
            del content[at : at + value]
        elif kind == "copy":
            start = value[0] % (len(content) + 1)
            content[at:at] = content[start : start + value[1]]
        else:
            del content[at:]
    return bytes(content)


def check(path, content, counts):
    """Reads a file to the end, or sees it refused, in no time."""
    path.write_bytes(content)
    start = time.monotonic()
    try:
        with opened(path) as file:
            for entry in file.entries.values():
                assert entry.read().shape == entry.shape
        counts["read"] += 1
    except DamagedFileError:
        counts["refused"] += 1
    assert time.monotonic() - start < 5


def run(strategy, content_of, path):
    counts = {"read": 0, "refused": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def fuzz(value):
        check(path, content_of(value), counts)

    fuzz()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"\n{path.name}: {counts}, memory grew by {grown:.0f} MiB")
    assert sum(counts.values()) >= EXAMPLES
    assert grown < 500


@pytest.mark.parametrize("kind", SEEDS)
def test_fuzz_files(kind, tmp_path):
    seed = SEEDS[kind](tmp_path)
    run(st.lists(edit, min_size=1, max_size=6), lambda edits: edited(seed, edits), tmp_path / f"fuzzed{kind}")


# Pickles of the right instructions in a wrong order go further than damaged ones.
instruction = st.one_of(
    st.sampled_from([b")", b"}", b"]", b"(", b"t", b"\x85", b"\x86", b"\x87", b"N", b"\x88", b"\x89"]),
    st.sampled_from([b"R", b"Q", b"s", b"u", b"a", b"e", b"b", b"."]),
    st.sampled_from(["storage", "cpu", "0", "a"]).map(foreign.text),
    st.integers(-(2**31), 2**31 - 1).map(foreign.number),
    st.integers(0, 3).map(foreign.number),
    st.binary(min_size=9, max_size=9).map(lambda content: b"\x8a\x09" + content),
    st.tuples(st.sampled_from([b"q", b"h"]), st.sampled_from([b"\x00", b"\x01"])).map(b"".join),
    st.sampled_from(
        [
            b"ccollections\nOrderedDict\n",
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"ctorch._utils\n_rebuild_parameter\n",
            b"ctorch\nFloatStorage\n",
            b"cos\nsystem\n",
        ]
    ),
    st.just(foreign.tensor("0", (2,))),
)


def test_fuzz_instructions(tmp_path):
    strategy = st.lists(instruction, max_size=40)

    def content(instructions):
        return foreign.zipped({"data.pkl": b"\x80\x02" + b"".join(instructions) + b".", "data/0": bytes(8)})

    run(strategy, content, tmp_path / "instructions.pth")
