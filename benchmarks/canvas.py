"""How much the canvas of an image changes what a detector finds: the squeeze of SE blocks averages
over the border, too.

`python -m benchmarks.canvas DETECTOR.safetensors ...`, detectors of "scenes" as `Detector.save` or
a training run writes them; `--images` says how many test images. Each is detected on its own canvas
(sides rounded up to 32), on one that is 50% wider, and on a square one of the spec's longest side;
with SE blocks also with a squeeze over the image alone ("valid"), which the detectors were not
trained with. Prints, against the own canvas with the usual squeeze: the mean absolute difference of
the gates; of the detections with a score of at least 0.3, how many have one with their class and
an IoU of at least 0.9, the mean IoU of these, and the mean absolute difference of the scores; and
AP.
"""

import argparse
import contextlib
from unittest import mock

import numpy as np
import tensorflow as tf

from keras_senet import detection
from keras_senet.detection import boxes as box
from keras_senet.detection.canvas import MULTIPLE, prepare
from keras_senet.detection.evaluation import compute, to_results
from keras_senet.layers import SqueezeExcite

LEAST, SAME = 0.3, 0.9  # a score, and an IoU


# canvas: of (the image's own height and width, the longest side of all) its height and width
CANVASES = {
    "own": lambda own, longest: own,
    "50% wider": lambda own, longest: (own[0], -(-own[1] * 3 // (2 * MULTIPLE)) * MULTIPLE),
    "square": lambda own, longest: (longest, longest),
}


@contextlib.contextmanager
def recording(size, canvas, valid):
    """Yields a list that gets the gates of each SE block; with `valid` they average over the part
    of a map that is the image's.
    """
    gates, whole = [], SqueezeExcite.excitation

    def excitation(layer, x):
        stride = canvas[0] // x.shape[1]
        height, width = (-(-side // stride) if valid else None for side in size)
        gates.append(whole(layer, x[:, :height, :width]))
        return gates[-1]

    with mock.patch.object(SqueezeExcite, "excitation", excitation):
        yield gates


def place(detector, image):
    """The `Canvas` of one image."""
    return prepare([image], detector.preprocessing, detector.spec.short, detector.spec.long)


def detect(detector, image, canvas, valid):
    """(all gates as one vector, `Detections`) of an image on a canvas."""
    (padded,), (size,) = place(detector, image)
    border = [(0, canvas[0] - padded.shape[0]), (0, canvas[1] - padded.shape[1]), (0, 0)]
    with recording(size.numpy().tolist(), canvas, valid) as gates:
        boxes, scores, classes, count = detector.detect_in_canvas(tf.pad(padded, border), size)
    factor, count = image.shape[:2] / size.numpy(), int(count)
    classes = np.int64(classes[:count])
    names = [detector.class_names[each] for each in classes]
    found = box.scale(boxes[:count], factor).numpy(), scores[:count].numpy(), classes, names
    return np.concatenate([np.ravel(gate) for gate in gates] or [[]]), detection.Detections(*found)


def compare(found, own):
    """(how many of the own detections are found again, and of these the IoUs and differences of
    scores).
    """
    overlaps, differences, count = [], [], 0
    for index in np.flatnonzero(own.scores >= LEAST):
        count += 1
        same = np.flatnonzero(found.classes == own.classes[index])
        if not len(same):
            continue
        overlap = box.iou(own.boxes[[index]], found.boxes[same]).numpy()[0]
        if overlap.max() >= SAME:
            overlaps.append(overlap.max())
            differences.append(abs(found.scores[same[overlap.argmax()]] - own.scores[index]))
    return count, overlaps, differences


def study(path, images):
    """Prints a row for each canvas."""
    detector = detection.load(path)
    has_gates = any(isinstance(layer, SqueezeExcite) for layer in detector.backbone.layers)
    owns = [place(detector, image).images.shape[1:3] for image in images.images]
    kinds = [(name, valid) for valid in (False, True)[: 1 + has_gates] for name in CANVASES]
    results = {kind: [] for kind in kinds}
    for image, own in zip(images.images, owns, strict=True):
        for name, valid in kinds:
            canvas = CANVASES[name](own, int(np.max(owns)))
            results[name, valid].append(detect(detector, image, canvas, valid))
    for (name, valid), found in results.items():
        gates, scores = [], [0, [], []]
        for (gate, each), (own_gate, own) in zip(found, results["own", False], strict=True):
            gates.append(np.abs(gate - own_gate).mean() if len(gate) else np.nan)
            scores = [a + b for a, b in zip(scores, compare(each, own), strict=True)]
        count, overlaps, differences = scores
        rows = to_results([each for _, each in found], images.ids, images.categories)
        ap = compute(images.to_coco(), rows).figures["AP"]
        print(
            f"| {path} | {name}{', valid' if valid else ''} | {np.mean(gates):.4f} "
            f"| {len(overlaps)} of {count} | {np.mean(overlaps or [np.nan]):.3f} "
            f"| {np.mean(differences or [np.nan]):.3f} | {ap:.3f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector", nargs="+")
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    images = detection.load_scenes("test", options.images)
    columns = ("detector", "canvas", "gates", "found again", "IoU", "scores", "AP")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for path in options.detector:
        study(path, images)


if __name__ == "__main__":
    main()
