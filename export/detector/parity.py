"""The proof of a detector's file: what it finds, run in its own runtime, against what Keras finds.

Two runtimes may list detections of nearly equal scores in another order, so these are matched by
class and place. And where two proposals overlap by almost exactly what is allowed, or a score is
almost the least, the last bit decides which box is found: a file may find other boxes in an image
to the extent that Keras does itself when its weights change in the last bit of the file's
precision.
"""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_senet.detection import Detections, Detector
from keras_senet.detection import boxes as box
from keras_senet.detection.canvas import prepare, resized_size
from keras_senet.detection.detections import to_detections
from keras_senet.extras import require

from ..conditioning import FLOAT16, FLOAT32, draw_changes
from ..formats import FormatOptions
from ..parity import ParityError, call_file, size_of
from .saved_model import signature_of

DRAWS = 4  # of changes of the weights; the worst counts
FACTOR = 2  # of what they change, which a file may
LEAST_AGREEMENT = 0.5  # of all detections: below, a file cannot be told from a wrong one
OF_ANY_SIZE = 2  # images, each of which may be another canvas, and so another trace of Keras'
LEAST_OVERLAP = 0.99  # IoU of a detection and its match


class Tolerance(NamedTuple):
    """How far a file may be off in canvas pixels and scores, and the last bit of its precision."""

    pixels: float
    score: float
    unit: float


TOLERANCES = {
    None: Tolerance(1e-2, 1e-4, FLOAT32.unit),
    "float16": Tolerance(0.1, 5e-3, FLOAT16.unit),
}


class Call(NamedTuple):
    """A call of a file, and the same of a detector.

    signature  the name
    inputs     arrays by the input's name
    detect     what a detector finds, in the pixels that the file counts in
    scale      how many of these are a pixel of the canvas
    """

    signature: str
    inputs: dict[str, np.ndarray]
    detect: Callable[[Detector], Detections]
    scale: float = 1.0


def measure_detector(
    target: Path,
    detector: Detector,
    exported: Detector,
    options: FormatOptions,
    canvases: Sequence[tuple[int, int]],
    images: Sequence[np.ndarray],
) -> dict[str, Any]:
    """The measured fields of an `ExportReport`.

    Args:
        target: the file.
        detector: what it must find the same as.
        exported: what it was written from, equal up to rounding.
        options, canvases, images: as it was exported with.

    Raises:
        ParityError: if the file cannot be run, or finds something else.
        ValueError: if there is nothing to be found in the images.
    """
    calls = list(_make_calls(detector, canvases, images))
    if options.kind == "savedmodel":
        calls += _make_calls_of_any_size(detector, images)
    expected = [call.detect(detector) for call in calls]
    if not sum(len(each.scores) for each in expected):
        raise ValueError(
            "`images` must be images in which the detector finds something, to compare what is "
            f"found. It finds nothing in these {len(images)}"
        )
    found, measured = _call_file(target, options.kind, calls, detector.class_names)
    what, tolerance = f"{options.kind} file of a detector", TOLERANCES[options.quantization]
    compare = functools.partial(_compare, exported, tolerance, what)
    errors = list(map(compare, calls, found, expected))
    total = sum(max(len(a.scores), len(b.scores)) for a, b in zip(found, expected, strict=True))
    if sum(each.agreeing for each in errors) < LEAST_AGREEMENT * total:
        raise ParityError(
            f"The {what} was removed: rounding alone changes most of what Keras finds "
            "in the images, so that nothing can be compared; give others by `images`"
        )
    return {"bytes": size_of(target), **_summarize(errors, total), **measured}


def _call_file(target, kind, calls, class_names):
    """(what the file finds in each call, the other measured fields)."""
    by_signature: dict[str, list] = {}
    for call in calls:
        by_signature.setdefault(call.signature, []).append(call.inputs)
    measured = call_file(target, kind, by_signature)
    outputs = measured.pop("outputs")
    return [_read_call(outputs, by_signature, call, class_names) for call in calls], measured


def _make_calls(detector, canvases, images) -> Iterator[Call]:
    for canvas in canvases:
        for image in images:
            spec = detector.spec
            padded = prepare([image], detector.preprocessing, spec.short, spec.long, canvas)
            inputs = {"images": padded.images.numpy(), "size": padded.sizes[0].numpy()}
            yield Call(signature_of(canvases, canvas), inputs, _in_canvas(canvas, inputs))


def _in_canvas(canvas, inputs):
    def detect(detector):
        found = detector.function(*canvas)(**inputs)
        arrays = {name: value.numpy() for name, value in found.items()}
        return to_detections(arrays, (1.0, 1.0), detector.class_names)

    return detect


def _make_calls_of_any_size(detector, images) -> Iterator[Call]:
    """The first images as uint8 and, if it can be, as PNG."""
    for image in images[:OF_ANY_SIZE]:
        pixels = np.clip(np.round(image), 0, 255).astype("uint8")
        size = resized_size(*pixels.shape[:2], detector.spec.short, detector.spec.long)
        scale = max(1.0, *(whole / part for whole, part in zip(pixels.shape, size, strict=False)))

        def detect(detector, pixels=pixels):
            (found,) = detector.detect([pixels])
            return found

        yield Call("serve_uint8", {"images": pixels[None]}, detect, scale)
        if pixels.shape[-1] in (1, 3):
            yield Call("serve_jpeg", {"images": np.array([_to_png(pixels)])}, detect, scale)


def _to_png(pixels):
    file = io.BytesIO()
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    require("PIL.Image", "detection").fromarray(shown).save(file, "PNG")
    return file.getvalue()


def _read_call(outputs, by_signature, call, class_names) -> Detections:
    """What a file found in a call."""
    inputs = by_signature[call.signature]
    (number,) = (number for number, each in enumerate(inputs) if each is call.inputs)
    arrays = {name: each[number] for name, each in outputs[call.signature].items()}
    if arrays["boxes"].ndim == 3:  # with an axis for several images
        arrays = {name: value[0] for name, value in arrays.items()}
    return to_detections(arrays, (1.0, 1.0), class_names)


class _Errors(NamedTuple):
    """Of an image: absolute errors of boxes' corners and of scores, of the detections that match;
    the largest corner; and how many are within the tolerance.
    """

    boxes: np.ndarray
    scores: np.ndarray
    largest: float
    agreeing: int


def _compare(exported, tolerance, what, call, found, expected) -> _Errors:
    """The errors. Raises ParityError if a file finds other boxes than rounding explains."""
    errors, difference = find_difference(found, expected, tolerance, call.scale)
    if difference is None:
        return errors
    own = []
    for seed in range(DRAWS):
        with _changed(exported, draw_changes(seed, tolerance.unit)):
            moved = call.detect(exported)
        moves, _ = find_difference(moved, expected, tolerance, call.scale)
        own.append(_disagreeing(moves, moved, expected))
    if _disagreeing(errors, found, expected) > FACTOR * max(own):
        raise ParityError(
            f"The {what} was removed: signature {call.signature} {difference}; rounding "
            f"moves {max(own)} of Keras' own"
        )
    return errors


def _disagreeing(errors, found, expected):
    return max(len(found.scores), len(expected.scores)) - errors.agreeing


@contextlib.contextmanager
def _changed(detector, change):
    """Changes the variables for a while."""
    kept = [variable.numpy() for variable in detector.variables]
    try:
        for variable, values in zip(detector.variables, kept, strict=True):
            variable.assign(change(values))
        yield
    finally:
        for variable, values in zip(detector.variables, kept, strict=True):
            variable.assign(values)


def find_difference(
    found: Detections, expected: Detections, tolerance: Tolerance, scale: float = 1.0
) -> tuple[_Errors, str | None]:
    """The errors of a file, and in words what disagrees with Keras, or None."""
    pairs = match_boxes(found, expected)
    a, b = [i for i, _ in pairs], [j for _, j in pairs]
    boxes = np.abs(found.boxes[a].astype("float64") - expected.boxes[b]).reshape(-1, 4)
    scores = np.abs(found.scores[a].astype("float64") - expected.scores[b])
    most = tolerance.pixels * scale
    agreeing = (boxes.max(-1) <= most) & (scores <= tolerance.score)
    largest = float(expected.boxes[b].max(initial=0))
    errors = _Errors(boxes, scores, largest, int(agreeing.sum()))
    numbers = len(found.scores), len(expected.scores)
    if not all(np.isfinite(each).all() for each in (found.boxes, found.scores)):
        return errors, "has detections that are not finite"
    if numbers[0] != numbers[1]:
        return errors, f"finds {numbers[0]} boxes, Keras {numbers[1]}"
    if len(pairs) < numbers[1]:
        missing = numbers[1] - len(pairs)
        return errors, f"lacks {missing} of {numbers[1]} boxes (class, and IoU > {LEAST_OVERLAP})"
    if not boxes.max(initial=0) <= most:
        return errors, f"has boxes that are off by {boxes.max():.2e} pixels ({most:.1e} accepted)"
    if not scores.max(initial=0) <= tolerance.score:
        accepted = f"({tolerance.score:.1e} accepted)"
        return errors, f"has scores that are off by {scores.max():.2e} {accepted}"
    return errors, None


def match_boxes(found: Detections, expected: Detections) -> list[tuple[int, int]]:
    """Pairs of indices of detections of one class that overlap by more than `LEAST_OVERLAP`, each
    at most once; those that overlap most come first.
    """
    if not len(found.scores) or not len(expected.scores):
        return []
    overlaps = box.iou(found.boxes, expected.boxes).numpy()
    overlaps[found.classes[:, None] != expected.classes] = 0
    pairs, taken = [], (set(), set())
    for flat in np.argsort(-overlaps, axis=None, kind="stable"):
        i, j = divmod(int(flat), len(expected.scores))
        if not overlaps[i, j] > LEAST_OVERLAP:
            break
        if i not in taken[0] and j not in taken[1]:
            pairs.append((i, j))
            taken[0].add(i)
            taken[1].add(j)
    return pairs


def _summarize(errors, total):
    boxes = np.concatenate([each.boxes.ravel() for each in errors])
    largest = max(each.largest for each in errors)
    return {
        "max_abs_error": float(boxes.max()),
        "mean_abs_error": float(boxes.mean()),
        "relative_error": float(boxes.max() / largest),
        "top1_agreement": boxes.size / 4 / total,
        "score_error": float(max(each.scores.max(initial=0) for each in errors)),
    }
