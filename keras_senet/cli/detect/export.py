"""`keras-senet detect export`: a detector in every format, each file run and compared."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from keras_senet.cli.detect import load_detector, open_boxes
from keras_senet.cli.options.detection import DetectExportOptions
from keras_senet.cli.results import check_exports, say_how_to_run, write_exports
from keras_senet.cli.tables import collect, make_table, say, show, show_json
from keras_senet.data.sources import select_evenly
from keras_senet.detection.data.loading import OpenedBoxes
from keras_senet.detection.evaluation import compute, to_results
from keras_senet.export.detector import load_exported
from keras_senet.export.files import FORMATS, ExportFile, plan_files
from keras_senet.export.formats import Common, export_model
from keras_senet.extras import require

COMPARED = 4  # images


def run(options: DetectExportOptions) -> None:
    """Writes the files and `report.json`, and prints how they compare with Keras."""
    source, plan = options.source, _plan(options)
    is_run = source.kind == "run"
    folder = Path(options.output or (Path(source.text, "exports") if is_run else "exports"))
    check_exports(plan, folder, options.overwrite)
    detector = load_detector(source)
    opened = _open(options, detector)
    images = opened and opened.images
    measure_keras = functools.cache(functools.partial(_measure, detector, images, options))

    def measure(each, report):
        if opened is None or not options.evaluate_images:
            return report
        file = load_exported(report.path)
        # Others than a SavedModel have one canvas, which Keras then has, too: what a canvas
        # changes is not the file's error.
        canvas = options.canvas if each.kind == "savedmodel" else file.canvases[0]
        return dataclasses.replace(
            report,
            accuracy=_measure(file, images, options),
            keras_accuracy=measure_keras(canvas),
            evaluated_images=min(options.evaluate_images, len(images)),
            evaluated_split=opened.split,
        )

    def write(each):
        return _write(each, detector, images, folder, options)

    reports = write_exports(plan, folder, write, measure)
    if options.json:
        show_json([dataclasses.asdict(each) for each in reports])
        return
    show(make_export_table(reports))
    say_how_to_run()


def _plan(options) -> list[ExportFile]:
    """The files to write. Raises ValueError for a quantisation that none of the formats has."""
    formats = options.format or tuple(FORMATS)
    plan = [
        each
        for each in plan_files(formats, options.quantization)
        if each.quantization in FORMATS[each.kind].DETECTOR_QUANTIZATIONS
    ]
    for quantization in options.quantization:
        if quantization not in [each.quantization for each in plan]:
            raise ValueError(
                f"--quantization {quantization} of a detector is not for --format "
                f"{' '.join(formats)}"
            )
    return plan


def _open(options, detector) -> OpenedBoxes | None:
    """The images of --dataset or of the run; None without any, or where the run's are gone."""
    if options.dataset is None and options.source.kind != "run":
        return None
    if options.evaluate_images:
        require("pycocotools", "detection")
    try:
        opened = open_boxes(options)
        return opened._replace(images=opened.images.with_classes(detector.class_names))
    except (ValueError, OSError, ImportError) as error:
        if options.dataset is not None:
            raise
        say(
            "Average precision is not measured, as the run's images cannot be used: give others by "
            f"--dataset ({error})"
        )
        return None


def _write(each: ExportFile, detector, images, folder, options):
    compared = None
    if images is not None:
        filled = [i for i, truth in enumerate(images.truths) if len(truth.boxes)]
        chosen = select_evenly(len(filled), COMPARED)
        compared = [images.read(filled[place]) for place in chosen]
    chosen = {} if each.quantization is None else {"quantization": each.quantization}
    common = Common(images=compared, overwrite=options.overwrite, canvas=options.canvas)
    return export_model(detector, folder / each.name, FORMATS[each.kind](**chosen), common)


def _measure(detector: Any, images: Any, options: Any, *canvas: Any) -> float | None:
    """AP on so many images as --evaluate-images says, evenly spread; None for none."""
    if not options.evaluate_images:
        return None
    chosen = images.subset(select_evenly(len(images), options.evaluate_images))
    steps = detector.detect(chosen.images, *canvas)
    found = collect(steps, True, len(chosen), "measuring average precision")
    results = to_results(found, chosen.ids, chosen.categories)
    ap = compute(chosen.to_coco(), results).figures["AP"]
    return None if np.isnan(ap) else ap


def make_export_table(reports: list[Any]) -> Table:
    """The `ExportReport`s of a detector's files as a table."""
    evaluated = [each for each in reports if each.accuracy is not None]
    title = "Exports, compared with Keras"
    if evaluated:
        each = evaluated[0]
        title += f"; AP on {each.evaluated_images:,} {each.evaluated_split} images"
    columns = ("file", "KiB", "boxes found", "box error, pixels", "score error")
    table = make_table(
        title, *columns, *(("AP in Keras", "in the file") if evaluated else ()), "ms"
    )
    for report in reports:
        precisions = (report.keras_accuracy, report.accuracy) if evaluated else ()
        table.add_row(
            Path(report.path).name,
            f"{report.bytes / 1024:,.0f}",
            f"{100 * report.top1_agreement:.2f}%",
            f"{report.max_abs_error:.1e}",
            f"{report.score_error:.1e}",
            *("-" if each is None else f"{each:.4f}" for each in precisions),
            f"{report.latency_ms:.1f}",
        )
    return table
