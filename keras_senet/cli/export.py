"""`keras-senet export`: a network in every format, each file run and compared before it is kept."""

import argparse
from pathlib import Path

from keras_senet import data
from keras_senet.cli import (
    WEIGHTS_HELP,
    console,
    export_table,
    load_network,
    read_report,
    show,
    write_report,
)
from keras_senet.cli import export_all as matrix
from keras_senet.export.files import FORMATS, MOST_COMPARED, planned
from keras_senet.export.images import MOST_IMAGES, images_for
from keras_senet.export.tflite import QUANTIZATIONS
from keras_senet.runs.load import is_run, load_run, results_folder
from keras_senet_cli import quiet

SMALLER = [name for name in QUANTIZATIONS if name]


def add_arguments(parser):
    """The flags of the command."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="*",
        help="a constructor's name, a work directory of training, or a .keras file of `prune`; with --all, work "
        "directories to add",
    )
    parser.add_argument("--weights", help=f"{WEIGHTS_HELP}; default: imagenet")
    parser.add_argument(
        "--size",
        type=_size,
        metavar="SIZE",
        help="height and width of the images, such as 320 or 320x256, or any: SavedModel and ONNX then take images of "
        "any size, TFLite those of the network's own; default: the network's own",
    )
    parser.add_argument("--format", nargs="+", choices=FORMATS, help="default: all")
    parser.add_argument(
        "--quantization",
        nargs="+",
        choices=SMALLER,
        default=[],
        help="further TFLite and ONNX files, beside float32",
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        help=f"images that int8 and int16x8 are calibrated on, {MOST_IMAGES} at most: a folder of them, or a "
        f"dataset, whose training images are taken; files are compared on {MOST_COMPARED} of them",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where tensorflow_datasets has its data")
    parser.add_argument(
        "--output", metavar="DIR", help="default: exports, or exports/ in the run's folder"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that an export left there"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="export every network, with random weights, in every way, and keep only a table: export.csv and export.md "
        "in --output, results by default; the same command again goes on with what is missing",
    )


def _size(text):
    """(H, W) of "320x256" or "320", and (None, None) of "any"."""
    if text == "any":
        return None, None
    sides = text.split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(
            f"must be a number of pixels, HxW or any. Received: {text!r}"
        )
    return int(sides[0]), int(sides[-1])


def run(options):
    """Writes the files and `report.json`, and prints how they compare with Keras."""
    if options.all:
        for name in ("weights", "size", "format", "quantization", "calibration", "overwrite"):
            if getattr(options, name):
                raise ValueError(
                    f"--{name} is not for --all, which exports all networks in every way"
                )
        return matrix.run(options)
    if len(options.model) != 1:
        raise ValueError(
            f"export takes one MODEL, or --all. Received: {' '.join(options.model) or 'none'}"
        )
    (options.model,) = options.model
    plan = planned(options.format or list(FORMATS), options.quantization)
    calibrated = [each.quantization for each in plan if each.calibrates]
    if calibrated and options.calibration is None:
        raise ValueError(f"--quantization {calibrated[0]} needs images: --calibration DIR")
    with console.status(f"loading {options.model}"), quiet():
        model, class_names, folder = _network(options)
    report = folder / "report.json"
    earlier = read_report(report)
    for each in plan:
        each.check_free(folder, options.overwrite)
    images = (
        None
        if options.calibration is None
        else images_for(model, options.calibration, options.data_dir)
    )
    reports = []
    for each in plan:
        with console.status(f"exporting {each.name}"), quiet():
            reports.append(
                each.write(
                    model,
                    folder,
                    images=None if images is None else each.compared(images),
                    calibration=images,
                    class_names=class_names,
                    overwrite=options.overwrite,
                )
            )
    write_report(report, reports, **earlier)
    show(export_table(reports))


def _network(options):
    """(the network, its classes' names or None, the folder for its files)."""
    if not is_run(options.model):
        model = load_network(options.model, options.weights or "imagenet", options.size)
        return model, None, Path(options.output or "exports")
    if options.weights is not None:
        raise ValueError(
            f"--weights is not for a run, which has its own. Received: --weights {options.weights}"
        )
    if options.size is not None:
        raise ValueError("--size is not for a run, whose network has its own")
    found = load_run(options.model)
    try:
        class_names = data.load(found.dataset, "test", options.data_dir).class_names
    except (ValueError, OSError, ImportError):
        class_names = None  # the run's images are elsewhere
    return (
        found.model,
        class_names,
        Path(options.output or results_folder(options.model) / "exports"),
    )
