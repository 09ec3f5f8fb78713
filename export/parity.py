"""The proof of an export: the written file, run in its own runtime, against the Keras model on the
same images.
"""

import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .conditioning import Witness
from .graph import (
    in_float32,
    is_of_any_size,
    is_taken,
    own_sides,
    takes_integers,
    with_plain_ends,
    with_sides,
)

SYNTHETIC_IMAGES = 8
USUAL_SIZE = 224
# Added to the own size of a network for images of any size. What strides do not divide is tried
# before what they do.
SIZES = ((0, 0), (13, -5), (32, 0), (0, -32), (64, 128))


class ParityError(ValueError):
    """An exported file does not compute what the Keras model does; it has been removed."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with the Keras model.

    path            the file, or the SavedModel's folder
    format          "savedmodel", "tflite" or "onnx"
    quantization    None, or the name of the quantisation
    bytes           size of all that was written
    max_abs_error   largest difference of an output
    mean_abs_error  mean difference
    relative_error  largest difference over the largest output
    top1_agreement  fraction of the images, 0..1, whose largest output is of the same class
    latency_ms      median time for one image, milliseconds, on all cores of this machine
    peak_memory     bytes, of a fresh process that holds the runtime and the file and runs the
                    images
    sensitivity     how far the Keras model's own outputs move, as `relative_error`, when its
                    weights and the images change in the last bit of the file's precision; None for
                    integers
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


def synthetic_images(model, preprocessing):
    """Seeded images (8, H, W, C): smooth colours and noise of 0..255 RGB, normalised if the file
    takes them so.
    """
    return _synthetic(model, model.inputs[0].shape[1:], preprocessing)


def _synthetic(model, shape, preprocessing, count=SYNTHETIC_IMAGES):
    random = np.random.default_rng(0)
    tint = random.uniform(0, 255, (count, 1, 1, 1))
    images = np.clip(tint + random.normal(0, 60, (count, *shape)), 0, 255).astype("float32")
    if takes_integers(model):
        images = images.round()
    return images if preprocessing is not None or takes_integers(model) else images / 127.5 - 1


def batches_to_compare(model, preprocessing, images):
    """Images to compare on, a batch of each size: two sizes at least of a model for images of any
    size.
    """
    if not is_of_any_size(model):
        return (
            [synthetic_images(model, preprocessing)]
            if images is None
            else checked_images("images", images, model)
        )
    batches = [] if images is None else checked_images("images", images, model)
    own = own_sides(model, preprocessing) or (USUAL_SIZE, USUAL_SIZE)
    for change in SIZES:
        shape = with_sides(model, [side + added for side, added in zip(own, change, strict=True)])
        if (
            len(batches) < 2
            and shape not in [batch.shape[1:] for batch in batches]
            and is_taken(model, shape)
        ):
            batches.append(_synthetic(model, shape, preprocessing, SYNTHETIC_IMAGES // 2))
    if not batches:
        raise ValueError(
            f"`images` must be of a size that {model.name!r} takes: {own} is not. Received: images=None"
        )
    return batches


@contextlib.contextmanager
def staged(path, overwrite, is_folder):
    """A path to write to, beside `path`; what is there at the end replaces `path`, and an error
    leaves `path` alone.

    Raises:
        FileExistsError: if there is something at `path` and `overwrite` is False, or something of
        another kind. OSError: if the folder cannot be written.
    """
    given, path = str(path), Path(os.path.realpath(path))
    check_replaceable(given, overwrite, is_folder)
    with (
        _folders_of(path, given),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder,
    ):
        target, former = Path(folder, "new", path.name), Path(folder, "former")
        target.parent.mkdir()
        yield target
        if path.exists():
            os.replace(path, former)
        try:
            os.replace(target, path)
        except OSError:
            if former.exists():
                os.replace(former, path)
            raise


@contextlib.contextmanager
def _folders_of(path, given):
    """The folders that `path` is in are there; those that were made for it are gone after an error.

    Raises:
        OSError: if nothing can be written there.
    """
    made = [folder for folder in path.parents if not os.path.lexists(folder)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=path.parent).cleanup()
    except OSError as error:
        _remove(made)
        raise OSError(f"{given!r} cannot be written: {error.strerror or error}") from error
    try:
        yield
    except BaseException:
        _remove(made)
        raise


def _remove(folders):
    """Removes folders, the innermost first, unless something else has come into them."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def check_replaceable(path, overwrite, is_folder):
    """Raises FileExistsError unless `path` is free, or, with `overwrite`, holds what an export of
    its kind wrote.
    """
    given, path = str(path), Path(os.path.realpath(path))
    if not path.exists():
        return
    if not is_folder and path.is_dir():
        raise FileExistsError(f"{given!r} is a folder; `path` must name a file")
    if is_folder and not path.is_dir():
        raise FileExistsError(f"{given!r} is a file; `path` must name a folder for the SavedModel")
    if is_folder and not any(path.iterdir()) and path not in (Path.cwd(), *Path.cwd().parents):
        return
    if is_folder and not (path / "saved_model.pb").exists():
        raise FileExistsError(
            f"{given!r} is a folder with other things in it; choose another `path`"
        )
    if not overwrite:
        raise FileExistsError(
            f"{given!r} exists; pass `overwrite=True` (--overwrite) to replace it"
        )


def export(
    write,
    model,
    path,
    *,
    kind,
    quantization,
    images,
    preprocessing,
    overwrite,
    precision,
    layout="nhwc",
    references=None,
):
    """Writes a file by `write(model, target)`, runs it, compares, keeps it only if it agrees;
    returns the report.

    `references` has, by name, what Keras computes where the file has further ways to be called:
    functions of (model, preprocessing, images), whose result is an array for each output's name.
    """
    model = with_plain_ends(in_float32(model))
    batches = batches_to_compare(model, preprocessing, images)
    with staged(path, overwrite, is_folder=kind == "savedmodel") as target:
        write(model, target)
        witness = Witness(model, preprocessing)
        cut = precision.is_bounded and bool(witness.activations)
        measured = run_file(target, kind, [laid_out(each, layout) for each in batches], cut)
        found = measured.pop("outputs")
        reference = witness.outputs(batches)
        moved = (
            witness.sensitivity(batches, reference, precision.unit) if precision.is_bounded else {}
        )
        reference = {
            name: [laid_out(each, layout) for each in arrays] for name, arrays in reference.items()
        }
        what = f"{kind} file of {model.name!r}"
        errors = check(
            found.pop(kind), found.pop("before", {}), reference, witness, moved, precision, what
        )
        for signature, outputs in found.items():
            for name, expected in references[signature](model, preprocessing, batches[0]).items():
                label = f"signature {signature} of the {what}"
                compare(
                    outputs[name][0], expected, precision.accepted(moved[name]), label, moved[name]
                )
        size = sum(
            f.stat().st_size
            for f in (target.rglob("*") if target.is_dir() else [target])
            if f.is_file()
        )
    sensitivity = max(moved[name] for name in witness.names) if moved else None
    return ExportReport(
        str(path), kind, quantization, size, **errors, **measured, sensitivity=sensitivity
    )


def check(found, before, reference, witness, moved, precision, what):
    """The errors of `ExportReport`, over all outputs and batches.

    A softmax or sigmoid at the end enlarges or hides errors. So it is compared before that
    activation too, where a difference that only this network's conditioning explains must be no
    more than rounding makes there.

    Args:
        found, before: arrays of each batch by the output's name, of the file and of the file cut
        before its end. reference: those of the `witness`. moved: its sensitivities.

    Raises:
        ParityError: if an output is missing, not finite, or differs by more.
    """
    errors = []
    for name in witness.names:
        label = what if len(witness.names) == 1 else f"output {name!r} of the {what}"
        if len(found.get(name, ())) != len(reference[name]):
            raise ParityError(f"The {what} was removed: it has no output {name!r}")
        pairs = list(zip(found[name], reference[name], strict=True))
        accepted = math.inf if name in before else precision.accepted(moved.get(name, 0.0))
        errors += [compare(*pair, accepted, label, moved.get(name)) for pair in pairs]
        if name in before:
            is_usual = all(
                each["relative_error"] <= precision.tolerance for each in errors[-len(pairs) :]
            )
            inner = f"{name} (before)"
            explained = precision.explained(moved[inner])
            accepted = max(precision.tolerance, explained) if is_usual else explained
            for values, expected in zip(before[name], reference[inner], strict=True):
                compare(
                    values,
                    expected,
                    accepted,
                    f"{label}, before its last activation,",
                    moved[inner],
                )
            for (outputs, _), values in zip(pairs, before[name], strict=True):
                activated = witness.activations[name](values.astype("float64"))
                compare(outputs, activated, precision.tolerance, f"last activation of the {label}")
    counts = [len(array) for name in witness.names for array in found[name]]
    sizes = [array.size for name in witness.names for array in found[name]]
    return {
        "max_abs_error": max(each["max_abs_error"] for each in errors),
        "mean_abs_error": float(
            np.average([each["mean_abs_error"] for each in errors], weights=sizes)
        ),
        "relative_error": max(each["relative_error"] for each in errors),
        "top1_agreement": float(
            np.average([each["top1_agreement"] for each in errors], weights=counts)
        ),
    }


def laid_out(values, layout):
    """Images or maps (N, H, W, C) in a file's layout; what has another rank as it is."""
    return values.transpose(0, 3, 1, 2) if layout == "nchw" and values.ndim == 4 else values


def checked_images(argument, images, model):
    """The images of any iterable as float32 arrays (N, H, W, C), one of each size that there is.

    Raises:
        ValueError: if there are none, they are not of the model's shape, or not finite.
    """
    shape = tuple(model.inputs[0].shape[1:])
    named = ", ".join("any" if side is None else str(side) for side in shape)
    try:
        arrays = [np.asarray(image, "float32") for image in images]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must be images of shape ({named}). Received: {type(images)} ({error})"
        ) from error
    sizes = dict.fromkeys(array.shape for array in arrays)
    wrong = [
        each
        for each in sizes
        if len(each) != 3 or not all(a in (None, b) for a, b in zip(shape, each, strict=True))
    ]
    if wrong or not arrays:
        given = (len(arrays), *(wrong[0] if wrong else ()))
        raise ValueError(f"`{argument}` must be of shape (N, {named}). Received: {given}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"`{argument}` must be finite. Received: values that are not")
    return [np.stack([array for array in arrays if array.shape == size]) for size in sizes]


def compare(outputs, reference, tolerance, what, moved=None):
    """The errors of `ExportReport`. Raises ParityError if outputs are not finite or differ by more
    than `tolerance`.

    `moved` is how far rounding moves the reference itself, which an error then tells.
    """
    if outputs.shape != reference.shape:
        raise ParityError(
            f"The {what} gives outputs of shape {outputs.shape}, Keras of shape {reference.shape}"
        )
    difference = np.abs(outputs.astype("float64") - reference)
    relative = difference.max() / max(np.abs(reference).max(), np.finfo("float32").tiny)
    if not np.isfinite(outputs).all():  # argmax "agrees" on NaN
        raise ParityError(f"The {what} was removed: it gives outputs that are not finite")
    if not relative <= tolerance:  # written so that NaN fails
        own = "" if moved is None else f"; rounding moves Keras' own by {moved:.1e}"
        raise ParityError(
            f"The {what} was removed: it differs from Keras by {relative:.2e} of the largest output, "
            f"and {tolerance:.1e} is accepted{own}"
        )
    flat = (len(outputs), -1)
    agreement = np.mean(outputs.reshape(flat).argmax(-1) == reference.reshape(flat).argmax(-1))
    return {
        "max_abs_error": float(difference.max()),
        "mean_abs_error": float(difference.mean()),
        "relative_error": float(relative),
        "top1_agreement": float(agreement),
    }


def run_file(path, kind, batches, cut=False):
    """`outputs`, `latency_ms` and `peak_memory` of a file, run in a fresh process by its own
    runtime.

    The outputs are, by the signature's name (the file's own is called `kind`) and the output's, an
    array a batch. With `cut` there is also what each softmax or sigmoid at the end is computed
    from, as signature `before`.

    Raises:
        ParityError: if the runtime cannot load or run the file; its own message follows.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/images.npz", *batches)
        program = str(Path(__file__).with_name("run_file.py"))
        command = [
            sys.executable,
            "-P",
            program,
            kind,
            str(path),
            folder,
            *(["before"] if cut else []),
        ]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
            raise ParityError(f"The {kind} file was removed: its runtime cannot run it ({reason})")
        return read_outputs(folder)


def read_outputs(folder):
    """What `run_file.py` left in its folder, as `run_file` returns it."""
    outputs = {}
    with np.load(f"{folder}/outputs.npz") as archive:
        for key in archive.files:  # SIGNATURE/OUTPUT/BATCH, the batches in their order
            signature, rest = key.split("/", 1)
            name, _ = rest.rsplit("/", 1)
            outputs.setdefault(signature, {}).setdefault(name, []).append(archive[key])
    return {"outputs": outputs, **json.loads(Path(folder, "measured.json").read_text())}
