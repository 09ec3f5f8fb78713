"""The proof of an export: the written file, run in its own runtime, against the Keras model on the
same images.
"""

import dataclasses
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .accuracy import LabelledImages
from .conditioning import Reference
from .inputs import to_layout

if TYPE_CHECKING:
    from .formats import FormatOptions


class ParityError(ValueError):
    """An exported file does not compute what the Keras model does; it has been removed."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with the Keras model.

    path            the file, or the SavedModel's folder
    format          "savedmodel", "tflite" or "onnx"
    quantization    None, or the name of the quantisation
    bytes           size of all that was written
    max_abs_error   max abs. error of an output
    mean_abs_error  mean abs. error
    relative_error  max abs. error over the largest output
    top1_agreement  fraction of the images, 0..1, whose top-1 prediction is the same
    latency_ms      median time for one image, milliseconds, on all cores of this machine
    peak_memory     bytes, of a fresh process that holds the runtime and the file and runs the
                    images
    sensitivity     how far the Keras model's own outputs move, as `relative_error`, when its
                    weights and the images change in the last bit of the file's precision; None for
                    integers

    With labelled images to evaluate on, else None:

    accuracy          the fraction of them, 0..1, whose class is the file's top-1 prediction
    keras_accuracy    the same of the Keras model, on the same images
    evaluated_images  how many they are: a file that would take longer than two minutes is evaluated
                      on fewer than there are, evenly spread
    evaluated_split   of the dataset, if the command line chose the images
    sensitive_layers  the layers that lose most, if the command line was asked to look for them as
                      an integer file lost more than a point: `rank_layers`

    Of a detector, the errors are those of boxes, in pixels of the file's canvas, relative to the
    largest coordinate; `top1_agreement` is the fraction of Keras' detections that the file has,
    too, by class and an IoU above 0.99; and there is, else None:

    score_error       max abs. error of a score
    """

    path: str
    format: str
    quantization: str | None
    bytes: int
    max_abs_error: float
    mean_abs_error: float
    relative_error: float
    top1_agreement: float
    latency_ms: float
    peak_memory: int
    sensitivity: float | None = None
    accuracy: float | None = None
    keras_accuracy: float | None = None
    evaluated_images: int | None = None
    evaluated_split: str | None = None
    sensitive_layers: tuple[str, ...] | None = None
    score_error: float | None = None


def measure(
    target: Path,
    model: keras.Model,
    options: "FormatOptions",
    preprocessing,
    batches,
    evaluation: LabelledImages | None = None,
) -> dict[str, Any]:
    """The measured fields of an `ExportReport`.

    Raises:
        ParityError: if the file cannot be run, or differs from the model.
    """
    reference = Reference(model, preprocessing, batches, options.chosen.precision)
    given = [to_layout(batch, options.layout) for batch in batches]
    labelled = None if evaluation is None else to_layout(evaluation.images, options.layout)
    measured = run_file(target, options.kind, given, reference.is_cut, labelled)
    found = measured.pop("outputs")
    what = f"{options.kind} file of {model.name!r}"
    if evaluation is not None:
        evaluated = found.pop("evaluation")
        (predicted,), (at,) = evaluated["classes"], evaluated["indices"]
        if (predicted < 0).any():
            raise ParityError(f"The {what} was removed: its outputs are not finite")
        measured |= evaluation.accuracies(model, preprocessing, predicted, at)
    own, before = found.pop(options.kind), found.pop("before", {})
    errors = check_parity(own, before, reference.to_layout(options.layout), what)
    for signature, outputs in found.items():
        expected = options.signatures[signature](model, preprocessing, batches[0])
        for name, values in expected.items():
            label = f"signature {signature} of the {what}"
            moved = reference.moved[name]
            compare_arrays(outputs[name][0], values, reference.accepted(name), label, moved)
    sensitivity = reference.sensitivity
    return {"bytes": size_of(target), **errors, **measured, "sensitivity": sensitivity}


def size_of(path: Path) -> int:
    """The bytes of a file, or of all in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def check_parity(found: dict, before: dict, reference: Reference, what: str) -> dict[str, float]:
    """The errors of `ExportReport`, over all outputs and batches.

    Args:
        found, before: arrays of each batch by the output's name, of the file and of the file cut
            before its last activation.
        reference: in the file's layout.
        what: the file, for messages.

    Raises:
        ParityError: if an output is missing, not finite, or differs by more than is accepted.
    """
    errors = []
    for name in reference.names:
        label = what if len(reference.names) == 1 else f"output {name!r} of the {what}"
        if len(found.get(name, ())) != len(reference.outputs[name]):
            raise ParityError(f"The {what} was removed: it has no output {name!r}")
        accepted = math.inf if name in before else reference.accepted(name)
        own = _compare_batches(found[name], reference, name, accepted, label)
        if name in before:
            is_usual = all(e["relative_error"] <= reference.precision.tolerance for e in own)
            _check_before(before[name], reference, name, is_usual, label)
            _check_activation(found[name], before[name], reference, name, label)
        errors += own
    arrays = [array for name in reference.names for array in found[name]]
    return _summarize(errors, arrays)


def _compare_batches(found, reference, name, accepted, label):
    moved = reference.moved.get(name)
    pairs = zip(found, reference.outputs[name], strict=True)
    return [compare_arrays(values, expected, accepted, label, moved) for values, expected in pairs]


def _check_before(before, reference, name, is_usual, label):
    """Compares an output before its last activation, which enlarges or hides errors.

    A difference after it that only this network's conditioning explains must be no more than
    rounding makes before it.
    """
    inner = f"{name} (before)"
    explained = reference.precision.explained(reference.moved[inner])
    accepted = max(reference.precision.tolerance, explained) if is_usual else explained
    _compare_batches(before, reference, inner, accepted, f"{label}, before its last activation,")


def _check_activation(found, before, reference, name, label):
    """Compares an output with its last activation, computed here from what the file has before."""
    activation, tolerance = reference.activations[name], reference.precision.tolerance
    for outputs, values in zip(found, before, strict=True):
        activated = activation(values.astype("float64"))
        compare_arrays(outputs, activated, tolerance, f"last activation of the {label}")


def _summarize(errors, arrays):
    def mean(field, weights):
        return float(np.average([each[field] for each in errors], weights=weights))

    return {
        "max_abs_error": max(each["max_abs_error"] for each in errors),
        "mean_abs_error": mean("mean_abs_error", [array.size for array in arrays]),
        "relative_error": max(each["relative_error"] for each in errors),
        "top1_agreement": mean("top1_agreement", [len(array) for array in arrays]),
    }


def compare_arrays(
    outputs: np.ndarray, reference: np.ndarray, tolerance: float, what: str, moved=None
) -> dict[str, float]:
    """The errors of `ExportReport`. Raises ParityError if outputs are not finite or differ by more
    than `tolerance`.

    `moved` is how far rounding moves the reference itself, for the message.
    """
    if outputs.shape != reference.shape:
        raise ParityError(
            f"The {what} has outputs of shape {outputs.shape}, Keras of shape {reference.shape}"
        )
    difference = np.abs(outputs.astype("float64") - reference)
    relative = difference.max() / max(np.abs(reference).max(), np.finfo("float32").tiny)
    if not np.isfinite(outputs).all():  # argmax "agrees" on NaN
        raise ParityError(f"The {what} was removed: its outputs are not finite")
    if not relative <= tolerance:  # written so that NaN fails
        own = "" if moved is None else f"; rounding moves Keras' own by {moved:.1e}"
        raise ParityError(
            f"The {what} was removed: it differs from Keras by {relative:.2e} of the largest "
            f"output, and {tolerance:.1e} is accepted{own}"
        )
    flat = (len(outputs), -1)
    agreement = np.mean(outputs.reshape(flat).argmax(-1) == reference.reshape(flat).argmax(-1))
    return {
        "max_abs_error": float(difference.max()),
        "mean_abs_error": float(difference.mean()),
        "relative_error": float(relative),
        "top1_agreement": float(agreement),
    }


def run_file(path, kind: str, batches, cut=False, evaluated=None) -> dict[str, Any]:
    """`outputs`, `latency_ms` and `peak_memory` of a file, run in a fresh process by its own
    runtime.

    The outputs are, by the signature's name (the file's own is called `kind`) and the output's, an
    array per batch. With `cut` there is also what each softmax or sigmoid at the end is computed
    from, as signature `before`. Of the images `evaluated` there are, as signature `evaluation`, the
    classes that the file predicts, and the indices of those that it was run on.

    Raises:
        ParityError: if the runtime cannot load or run the file; its own message follows.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/images.npz", *batches)
        if evaluated is not None:
            np.save(f"{folder}/evaluated.npy", evaluated)
        return _run(kind, path, folder, *(["before"] if cut else []))


def call_file(path, kind: str, calls: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, Any]:
    """The same for several inputs: `calls` are, by signature, each call's arrays by name."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = {
            f"{signature}/{number}/{name}": value
            for signature, each in calls.items()
            for number, arrays in enumerate(each)
            for name, value in arrays.items()
        }
        np.savez(f"{folder}/inputs.npz", **inputs)
        return _run(kind, path, folder)


def _run(kind, path, folder, *arguments):
    program = str(Path(__file__).with_name("run_file.py"))
    command = [sys.executable, "-P", program, kind, str(path), folder, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        raise ParityError(f"The {kind} file was removed: its runtime cannot run it ({reason})")
    return read_outputs(folder)


def read_outputs(folder) -> dict[str, Any]:
    """What `run_file.py` wrote into its folder, as `run_file` returns it."""
    outputs = {}
    with np.load(f"{folder}/outputs.npz") as archive:
        for key in archive.files:  # SIGNATURE/OUTPUT/BATCH, the batches in their order
            signature, rest = key.split("/", 1)
            name, _ = rest.rsplit("/", 1)
            outputs.setdefault(signature, {}).setdefault(name, []).append(archive[key])
    return {"outputs": outputs, **json.loads(Path(folder, "measured.json").read_text())}
