"""`keras-senet detect evaluate`: COCO's average precision of a detector."""

import json
import math
from pathlib import Path
from typing import Any

from keras_senet.cli.detect import load_detector, open_boxes
from keras_senet.cli.evaluate import output_folder
from keras_senet.cli.options.detection import DetectEvaluateOptions
from keras_senet.cli.results import choose_lowest
from keras_senet.cli.tables import collect, console, make_table, say, show, show_json
from keras_senet.detection.evaluation import (
    AveragePrecision,
    compute,
    count_objects,
    to_results,
)
from keras_senet.detection.mistakes import KINDS, Mistake, find_mistakes
from keras_senet.extras import require
from keras_senet.files import to_csv, write_atomically
from keras_senet.plots.detection import confident_mistakes, precision_recall
from keras_senet.runs import PER_CLASS, REPORT, RESULTS
from keras_senet.runs.results import update_report

FILES = (REPORT, PER_CLASS, RESULTS, "precision_recall.png", "mistakes.png")


def run(options: DetectEvaluateOptions) -> None:
    """The 12 figures, AP by class and the mistakes; with a folder for it also as files."""
    source = options.source
    own = Path(source.text) if source.kind == "run" else None
    output = output_folder(options.output or own, "train")
    require("pycocotools", "detection")
    name, split, images, is_trained_on = open_boxes(options)
    detector = load_detector(source)
    images = images.with_classes(detector.class_names)
    found = collect(detector.detect(images.images), True, len(images), "detecting")
    results = to_results(found, images.ids, images.categories)
    precision = compute(images.to_coco(), results)
    mistakes = find_mistakes(found, images.truths)
    content = {"detector": source.text, "dataset": name, "split": split}
    content |= _describe(images, found, precision, mistakes)
    if options.json:
        show_json(content)
    else:
        for note in images.notes:
            say(note)
        if is_trained_on:
            say("these images were trained on: the figures say nothing of others")
        _print(content, images)
    if output is not None:
        _write(output, content, results, precision, mistakes, images)


def _finite(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return value if math.isfinite(value) else None


def _describe(images, found, precision: AveragePrecision, mistakes) -> dict:
    kinds = {kind: sum(each.kind == kind for each in mistakes) for kind in KINDS}
    return {
        "images": len(images),
        "objects": sum(int((~truth.crowds).sum()) for truth in images.truths),
        "detections": sum(len(each.scores) for each in found),
        "figures": {key: _finite(value) for key, value in precision.figures.items()},
        "by_class": {key: _finite(value) for key, value in precision.by_class.items()},
        "mistakes": kinds,
    }


def _print(content, images):
    title = f"{content['dataset']}, {content['split']}: {content['images']:,} images, "
    title += f"{content['objects']:,} objects"
    rows = ((name.replace("_", " "), _figure(n)) for name, n in content["figures"].items())
    show(make_table(title, "figure", "value", rows=rows))
    _show_classes(content["by_class"], images)
    kinds = ", ".join(f"{name} {count:,}" for name, count in content["mistakes"].items())
    console.print(f"of {content['detections']:,} detections and the objects: {kinds}")


def _show_classes(by_class: dict[str, float | None], images: Any) -> None:
    """Prints AP of each class, or of those with the lowest."""
    counts = count_objects(images)
    shown = choose_lowest(list(by_class.items()), lambda row: row[1])
    rows = ((name, f"{counts[name]:,}", _figure(value)) for name, value in shown)
    show(make_table("Classes", "class", "objects", "AP", rows=rows))
    if rest := len(by_class) - len(shown):
        console.print(f"classes that are not shown: {rest:,}, all are in {PER_CLASS}")


def _figure(value):
    return "no objects" if value is None else f"{value:.3f}"


def _write(
    folder: Path, content: dict, results, precision, mistakes: list[Mistake], images
) -> None:
    """`FILES`; what else training wrote in `report.json` stays."""
    folder.mkdir(parents=True, exist_ok=True)
    update_report(folder / REPORT, content)
    counts = count_objects(images)
    rows = [
        {"class": name, "objects": counts[name], "ap": value}
        for name, value in content["by_class"].items()
    ]
    write_atomically(folder / PER_CLASS, to_csv(rows))
    write_atomically(folder / RESULTS, json.dumps(results))
    title = f"{Path(content['detector']).name} on {content['dataset']}, {content['split']}"
    ap = f"AP {_figure(content['figures']['AP'])}"
    path = folder / "precision_recall.png"
    precision_recall(precision.precision, precision.by_class, path, f"{title}: {ap}")
    written = list(FILES)
    if mistakes:
        path, read = folder / "mistakes.png", images.read
        confident_mistakes(mistakes, read, images.class_names, path, f"Mistakes of {title}")
    else:
        written.remove("mistakes.png")
    say(f"{folder}/: {', '.join(written)}")
