"""`keras-senet export`: a network in every format, each file run and compared before it is kept."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from keras_senet import data
from keras_senet.cli import export_all
from keras_senet.cli.network import load_network, results_folder
from keras_senet.cli.options import ExportOptions
from keras_senet.cli.results import (
    check_exports,
    export_table,
    say_how_to_run,
    write_exports,
)
from keras_senet.cli.tables import console, make_table, say, show, show_json, status
from keras_senet.data.sources import select_evenly
from keras_senet.evaluation.networks import check_classifier
from keras_senet.export.accuracy import LabelledImages
from keras_senet.export.files import FORMATS, plan_files
from keras_senet.export.formats import Common, check_layer_names
from keras_senet.export.images import MOST_IMAGES, images_for, images_of
from keras_senet.export.parity import ExportReport
from keras_senet.export.sensitive_layers import ACTIVATION_BITS, RankedLayer, rank_layers
from keras_senet.recipes import Recipe
from keras_senet.runs import REPORT
from keras_senet.runs.images import load_for_run
from keras_senet.runs.results import add_exports
from keras_senet_cli import quiet

MOST_LOST = 0.01  # of accuracy, before the layers are looked for that lose it
RANKED_IMAGES = 32
NAMED_LAYERS = 5
LEAST_SHARE = 0.1  # of the error, of a layer that is named


class _Images(NamedTuple):
    """The images to calibrate on, or None; those to evaluate on, or None, and their split."""

    calibration: np.ndarray | None = None
    evaluation: LabelledImages | None = None
    split: str | None = None

    @property
    def compared(self) -> np.ndarray | None:
        """Those that files are compared on; None for synthetic ones."""
        if self.calibration is not None or self.evaluation is None:
            return self.calibration
        return self.evaluation.images


def run(options: ExportOptions) -> None:
    """Writes the files and `report.json`, and prints how they compare with Keras."""
    if options.all:
        export_all.run(options)
        return
    plan = plan_files(options.format or list(FORMATS), options.quantization)
    loaded = load_network(options.source, options.weights, options.size)
    model, own = loaded.model, results_folder((options.source,))
    folder = Path(options.output or (own / "exports" if own else "exports"))
    if not loaded.division:  # what is calibrated on is not evaluated
        loaded = loaded._replace(division={"validation_fraction": Recipe().validation_fraction})
    check_layer_names(model, options.float_layers)
    check_exports(plan, folder, options.overwrite)
    with status("reading images"), quiet():
        images = _read_images(loaded, options, any(each.calibrates for each in plan))
    reports = write_exports(plan, folder, lambda each: _write(each, model, folder, images, options))
    ranked = _rank(model, images, reports)
    reports = [_with_layers(each, ranked) for each in reports]
    add_exports(folder / REPORT, reports)
    if options.json:
        show_json([dataclasses.asdict(each) for each in reports])
        return
    show(export_table(reports))
    for quantization, layers in ranked.items():
        _print_layers(quantization, layers, images.calibration)
    say_how_to_run()


def _write(file, model, folder, images, options) -> ExportReport:
    compared = images.compared
    common = Common(
        images=None if compared is None else file.compared(compared),
        class_names=getattr(model, "class_names", None),
        overwrite=options.overwrite,
        representative_images=images.calibration,
        evaluation=images.evaluation,
    )
    int8 = {name: getattr(options, name) for name in ("io_dtype", "float_gates", "float_layers")}
    report = file.write(model, folder, common, int8)
    return dataclasses.replace(report, evaluated_split=images.split)


def _read_images(loaded, options, calibrates) -> _Images:
    """The images of --calibration, and of --dataset or the run's own one.

    Raises:
        ValueError: if there are none to calibrate on, or those that are asked for cannot be used.
    """
    model, dataset = loaded.model, options.dataset or loaded.dataset
    calibration = None
    if options.calibration is not None:
        calibrates = True
        if not _is_divided(dataset, options):
            calibration = images_for(model, options.calibration, options.data_dir)
    if dataset is None:
        if calibration is None and calibrates:
            raise ValueError("there are no images to calibrate on: give --dataset or --calibration")
        return _Images(calibration)
    try:
        if calibration is None and calibrates:
            images = _open(loaded, options, dataset, "train").images
            calibration = images_of(model, images)[0].astype("float32")
        if not options.evaluate_images:
            return _Images(calibration)
        _, split, images = _open(loaded, options, dataset)
        check_classifier(model, images)
        found = images_of(model, images, options.evaluate_images)
        return _Images(calibration, LabelledImages(*found), split)
    except (ValueError, OSError, ImportError) as error:
        if options.dataset is not None:
            raise ValueError(f"--dataset {dataset} cannot be used: {error}") from error
        if calibration is None and calibrates:
            raise ValueError(
                f"the run's images, {dataset!r}, cannot be used: give others by --dataset or "
                f"--calibration ({error})"
            ) from error
        say(
            f"Accuracy is not measured, as the run's images, {dataset!r}, cannot be used: give "
            f"others by --dataset ({error})"
        )
        return _Images(calibration)


def _is_divided(dataset, options):
    """Whether --calibration is that dataset, and a part of it is evaluated on: then it is the rest
    that is calibrated on.
    """
    places = [each and Path(each).resolve() for each in (dataset, options.calibration)]
    return places[0] == places[1] and data.lacks_evaluation(dataset, options.data_dir)


def _open(loaded, options, dataset, split=None):
    """The images of a split; None is "val", or "test" of a dataset without one."""
    if split is None:
        split = "val" if "val" in data.splits(dataset, options.data_dir) else "test"
    return load_for_run(
        dataset,
        split,
        options.data_dir,
        own=loaded.dataset,
        division=loaded.division,
        upright=loaded.model.preprocessing.upright,
        class_names=getattr(loaded.model, "class_names", None),
    )


def _lost(report: ExportReport) -> float:
    """The accuracy that an integer file lost, or without labels the top-1 disagreement."""
    if report.accuracy is None or report.keras_accuracy is None:
        return 1 - report.top1_agreement
    return report.keras_accuracy - report.accuracy


def _rank(model, images, reports) -> dict[str, list[RankedLayer]]:
    """The layers, the most sensitive first, of each quantisation that lost more than a point."""
    if images.compared is None:
        return {}
    losing = [each.quantization for each in reports if _lost(each) > MOST_LOST]
    chosen = images.compared[select_evenly(len(images.compared), RANKED_IMAGES)]
    return {
        name: rank_layers(
            model,
            chosen,
            quantization=name,
            representative_images=images.calibration,
            preprocessing=model.preprocessing,
            progress=console,
        )
        for name in dict.fromkeys(losing)
        if name in ACTIVATION_BITS
    }


def _named(layers: list[RankedLayer]) -> list[RankedLayer]:
    return [each for each in layers[:NAMED_LAYERS] if each.share >= LEAST_SHARE]


def _with_layers(report, ranked):
    if report.quantization not in ranked or _lost(report) <= MOST_LOST:
        return report
    names = tuple(each.name for each in _named(ranked[report.quantization]))
    return dataclasses.replace(report, sensitive_layers=names)


def _print_layers(quantization: str, layers: list[RankedLayer], calibration) -> None:
    named = _named(layers)
    if named:
        show(_layers_table(quantization, named))
        floats = dict.fromkeys(name for each in named for name in each.float_layers)
        advice = [f"int8 with --float-layers {' '.join(floats)}"]
    else:
        console.print(f"{quantization} loses more than a point in all layers, not in a few.")
        advice = ["int8 with --float-gates"]
    if calibration is not None and len(calibration) < MOST_IMAGES:
        advice.append(f"more images to calibrate on (up to {MOST_IMAGES})")
    advice += [name for name in ("int16x8", "float16") if name != quantization]
    say(f"To lose less: {'; '.join(advice)}.")


def _layers_table(quantization, layers) -> Table:
    title = f"Layers that lose most in {quantization}, each rounded by itself"
    table = make_table(title, "layer", "error", "share of all", "top-1 agreement")
    for each in layers:
        figures = f"{each.error:.1e}", f"{100 * each.share:.0f}%", f"{100 * each.agreement:.1f}%"
        table.add_row(each.name, *figures)
    return table
