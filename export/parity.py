"""The proof of an export: the written file, run in its own runtime, against the Keras model on the same images."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .graph import check_exportable, in_float32, predict, with_plain_ends

FLOAT_TOLERANCE = 1e-4  # relative; a few hundred float32 roundings, added up over the network's depth
HALF_TOLERANCE = 1e-2  # relative; float16 has 11 bits
SYNTHETIC_IMAGES = 8


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
    top1_agreement  part of the images, 0..1, whose largest output is the same class
    latency_ms      median time for one image, milliseconds, on all cores of this machine
    peak_memory     bytes, of a fresh process that holds the runtime and the file and runs the images
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


def synthetic_images(model, preprocessing):
    """Seeded images (8, H, W, C): smooth colours and noise of 0..255 RGB, normalised if the file takes them so."""
    shape = model.inputs[0].shape[1:]
    random = np.random.default_rng(0)
    tint = random.uniform(0, 255, (SYNTHETIC_IMAGES, 1, 1, 1))
    images = np.clip(tint + random.normal(0, 60, (SYNTHETIC_IMAGES, *shape)), 0, 255).astype("float32")
    return images if preprocessing is not None else images / 127.5 - 1


@contextlib.contextmanager
def staged(path, overwrite, is_folder):
    """A path to write to, beside `path`; what is there at the end replaces `path`, and an error leaves `path` alone.

    Raises:
        FileExistsError: if there is something at `path` and `overwrite` is False, or something of another kind.
        OSError: if the folder cannot be written.
    """
    given, path = str(path), Path(os.path.realpath(path))
    check_replaceable(given, overwrite, is_folder)
    with _folders_of(path, given), tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
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
    """Raises FileExistsError unless `path` is free, or, with `overwrite`, holds what an export of its kind wrote."""
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
        raise FileExistsError(f"{given!r} is a folder with other things in it; choose another `path`")
    if not overwrite:
        raise FileExistsError(f"{given!r} exists; pass `overwrite=True` (--overwrite) to replace it")


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
    tolerance,
    layout="nhwc",
    references=None,
):
    """Writes a file by `write(model, target)`, runs it, compares, keeps it only if it agrees; returns the report.

    `references` has, by name, what Keras answers where the file has further ways to be called:
    functions of (model, preprocessing, images).
    """
    check_exportable(model, preprocessing)
    model = with_plain_ends(in_float32(model))
    images = synthetic_images(model, preprocessing) if images is None else checked_images("images", images, model)
    with staged(path, overwrite, is_folder=kind == "savedmodel") as target:
        write(model, target)
        measured = run_file(target, kind, laid_out(images, layout))
        reference = laid_out(predict(model, preprocessing, images), layout)
        outputs = measured.pop("outputs")
        errors = compare(outputs.pop(kind), reference, tolerance, f"{kind} file of {model.name!r}")
        for name, found in outputs.items():
            expected = references[name](model, preprocessing, images)
            compare(found, expected, tolerance, f"signature {name} of the {kind} file of {model.name!r}")
        size = sum(f.stat().st_size for f in (target.rglob("*") if target.is_dir() else [target]) if f.is_file())
    return ExportReport(str(path), kind, quantization, size, **errors, **measured)


def laid_out(values, layout):
    """Images or maps (N, H, W, C) in a file's layout; what has another rank as it is."""
    return values.transpose(0, 3, 1, 2) if layout == "nchw" and values.ndim == 4 else values


def checked_images(argument, images, model):
    """The images of any iterable as one float32 array (N, H, W, C).

    Raises:
        ValueError: if there are none, they are not of the model's shape, or not finite.
    """
    shape = tuple(model.inputs[0].shape[1:])
    try:
        images = np.asarray([np.asarray(image, "float32") for image in images])
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{argument}` must be images of shape {shape}. Received: {type(images)} ({error})") from error
    if images.shape[1:] != shape or len(images) == 0:
        raise ValueError(f"`{argument}` must be of shape (N, {', '.join(map(str, shape))}). Received: {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError(f"`{argument}` must be finite. Received: values that are not")
    return images


def compare(outputs, reference, tolerance, what):
    """The errors of `ExportReport`. Raises ParityError if outputs are not finite or differ by more than `tolerance`."""
    if outputs.shape != reference.shape:
        raise ParityError(f"The {what} gives outputs of shape {outputs.shape}, Keras of shape {reference.shape}")
    difference = np.abs(outputs.astype("float64") - reference)
    relative = difference.max() / max(np.abs(reference).max(), np.finfo("float32").tiny)
    if not np.isfinite(outputs).all():  # argmax "agrees" on NaN
        raise ParityError(f"The {what} was removed: it gives outputs that are not finite")
    if not relative <= tolerance:  # written so that NaN fails
        raise ParityError(
            f"The {what} was removed: it differs from Keras by {relative:.2e} of the largest output, "
            f"and {tolerance:.0e} is accepted"
        )
    flat = (len(outputs), -1)
    agreement = np.mean(outputs.reshape(flat).argmax(-1) == reference.reshape(flat).argmax(-1))
    return {
        "max_abs_error": float(difference.max()),
        "mean_abs_error": float(difference.mean()),
        "relative_error": float(relative),
        "top1_agreement": float(agreement),
    }


def run_file(path, kind, images):
    """`outputs` by name, `latency_ms` and `peak_memory` of a file, run in a fresh process by its own runtime.

    Raises:
        ParityError: if the runtime cannot load or run the file; its own message follows.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images)
        command = [sys.executable, "-P", str(Path(__file__).with_name("run_file.py")), kind, str(path), folder]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
            raise ParityError(f"The {kind} file was removed: its runtime cannot run it ({reason})")
        measured = json.loads(Path(folder, "measured.json").read_text())
        return {"outputs": {path.stem: np.load(path) for path in Path(folder, "outputs").iterdir()}, **measured}
