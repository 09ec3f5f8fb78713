"""What a command is given as a network: a constructor's name, or the place of one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from keras_senet.networks import read_table
from keras_senet.runs import DETECTION, RECIPE
from keras_senet.runs.record import read_entries, read_task
from keras_senet_cli import suggest

# What the names of files of each kind end in
KINDS = {
    ".keras": "run",
    ".weights.h5": "weights",
    ".safetensors": "weights",
    ".onnx": "onnx",
    ".tflite": "tflite",
}
EXPORTED = ("onnx", "tflite", "savedmodel")
# The same of detectors
DETECTORS = {
    ".safetensors": "detector",
    **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar"), "detector"),
    ".onnx": "onnx",
    ".tflite": "tflite",
}
HUB = "hf://"
ACCEPTED = (
    "a constructor's name (`keras-senet list`), a training work directory, a .keras file, or a "
    "file of weights that names its network (.weights.h5, .safetensors)"
)
ACCEPTED_TO_RUN = (
    ACCEPTED.replace(" or a file of weights", " a file of weights")
    + ", or an exported .onnx or .tflite file or SavedModel folder"
)
DETECTOR = (
    "a work directory of `keras-senet detect train`, a detector's .safetensors file, or "
    "torchvision's fasterrcnn_resnet50_fpn (.pth)"
)
DETECTOR_TO_RUN = DETECTOR.replace(" or torch", " torch") + (
    ", or an exported .onnx or .tflite file or SavedModel folder"
)


class Source(NamedTuple):
    """A network by what was given for it.

    kind  "constructor"; "run", a work directory or a `.keras` file; "weights", a file that names
          its network; "onnx", "tflite" or "savedmodel"
    text  the name or the path
    """

    kind: str
    text: str


def find_source(argument: str, text: str, *, exported: bool = False) -> Source:
    """The `Source` of what an argument was given; nothing is opened.

    `exported` says whether the command takes exported files.

    Raises:
        ValueError: for anything else; it lists what is accepted.
    """
    kind = _kind_of(text)
    if kind is None or (kind in EXPORTED and not exported):
        accepted = ACCEPTED_TO_RUN if exported else ACCEPTED
        raise ValueError(f"{argument} must be {accepted}. Received: {text!r}{_suggest(text)}")
    if Path(text).is_dir() and kind == "run" and not Path(text, RECIPE).is_file():
        raise ValueError(
            f"{argument} must be {ACCEPTED_TO_RUN if exported else ACCEPTED}. Received: {text!r}, "
            f"which holds no training run: there is no {RECIPE}"
        )
    return Source(kind, text)


def find_detector(argument: str, text: str, *, exported: bool = False) -> Source:
    """The `Source` of a detector; nothing is opened but the recipe of a work directory. Arguments
    and errors as for `find_source`; its kind is "run", "detector", or that of an exported file.
    """
    path, accepted = Path(text), DETECTOR_TO_RUN if exported else DETECTOR
    if (path / RECIPE).is_file():
        if read_task(path) != DETECTION:
            is_known = read_entries(path)
            why = "a training run of a classifier" if is_known else f"whose {RECIPE} is damaged"
            raise ValueError(f"{argument} must be {accepted}. Received: {text!r}, {why}")
        return Source("run", text)
    kind = next((kind for ending, kind in DETECTORS.items() if text.endswith(ending)), None)
    if (path / "saved_model.pb").is_file():
        kind = "savedmodel"
    elif not path.is_file():
        kind = None
    if kind is None or (kind in EXPORTED and not exported):
        why = f", which holds no training run: there is no {RECIPE}" if path.is_dir() else ""
        why = why or ("" if path.exists() else ", which does not exist")
        raise ValueError(f"{argument} must be {accepted}. Received: {text!r}{why}")
    return Source(kind, text)


def find_run(text: str, *, exported: bool = False) -> Source:
    """The same for --workdir: a file, or else a work directory, which need not be there."""
    kind, files = _kind_of(text), ("weights", *(EXPORTED if exported else ()))
    return Source(kind if kind in files else "run", text)


def _kind_of(text):
    if text in read_table():
        return "constructor"
    if text.startswith(HUB):
        return "weights"
    path = Path(text)
    if path.is_dir():
        is_exported = (path / "saved_model.pb").is_file() and not (path / RECIPE).is_file()
        return "savedmodel" if is_exported else "run"
    kind = next((kind for ending, kind in KINDS.items() if text.endswith(ending)), None)
    return kind if path.is_file() else None


def _suggest(text):
    """That a file does not exist, and what there is, or which constructor, of nearly this name."""
    path = Path(text)
    if path.exists():
        return ""
    names = list(read_table())
    with contextlib.suppress(OSError):
        names += [str(path.with_name(each.name)) for each in path.parent.iterdir()]
    missing = ", which does not exist" if text.endswith(tuple(KINDS)) else ""
    return missing + suggest(text, names)
