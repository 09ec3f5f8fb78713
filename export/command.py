"""`keras-senet export`: a network in every format, each file run and compared before it is kept."""

import os
from pathlib import Path

import numpy as np

from keras_senet import data
from keras_senet.cli import WEIGHTS_HELP, console, export_table, load_network, write_report
from keras_senet.data.folders import DECODED
from keras_senet.evaluation import load_run
from keras_senet.evaluation.networks import views_of
from keras_senet_cli import quiet

from .onnx import to_onnx
from .saved_model import to_saved_model
from .tflite import QUANTIZATIONS, to_tflite

FORMATS = ("savedmodel", "tflite", "onnx")
SMALLER = [name for name in QUANTIZATIONS if name]
CALIBRATION_IMAGES = 200
COMPARED_IMAGES = {"int16x8": 4}  # slow on a CPU
MOST_COMPARED = 64


def add_arguments(parser):
    """The flags of the command."""
    parser.add_argument("model", metavar="MODEL", help="a constructor's name, or a work directory of training")
    parser.add_argument("--weights", help=f"{WEIGHTS_HELP}; default: imagenet")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=FORMATS, help="default: all")
    parser.add_argument(
        "--quantization", nargs="+", choices=SMALLER, default=[], help="further TFLite files, beside float32"
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        help=f"images that int8 and int16x8 are calibrated on, {CALIBRATION_IMAGES} at most: a folder of them, or a "
        "dataset, whose training images are taken; all files are compared on them",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where tensorflow_datasets has its data")
    parser.add_argument("--output", metavar="DIR", help="default: exports, or exports/ in the work directory")
    parser.add_argument("--overwrite", action="store_true", help="replace files that an export left there")


def run(options):
    """Writes the files and `report.json`, and prints how they compare with Keras."""
    calibrated = [name for name in options.quantization if QUANTIZATIONS[name].calibrates]
    if calibrated and options.calibration is None:
        raise ValueError(f"--quantization {calibrated[0]} needs images: --calibration DIR")
    if options.quantization and "tflite" not in options.format:
        raise ValueError(f"--quantization is of TFLite files. Received: --format {' '.join(options.format)}")
    with console.status(f"loading {options.model}"), quiet():
        model, class_names, folder = _network(options)
    images = None if options.calibration is None else _images(options.calibration, model, options.data_dir)
    reports = []
    for name, write, extra in _files(options, images, class_names):
        with console.status(f"exporting {name}"), quiet():
            common = {"preprocessing": model.preprocessing, "overwrite": options.overwrite}
            reports.append(write(model, folder / name, **common, **extra))
    write_report(folder / "report.json", reports)
    console.print(export_table(reports))


def _network(options):
    """(the network, its classes' names or None, the folder for its files)."""
    if not Path(options.model, "recipe.json").is_file():
        model = load_network(options.model, options.weights or "imagenet")
        return model, None, Path(options.output or "exports")
    if options.weights is not None:
        raise ValueError(f"--weights is not for a work directory. Received: --weights {options.weights}")
    found = load_run(options.model)
    try:
        class_names = list(data.load(found.dataset, "test", options.data_dir).class_names)
    except (ValueError, OSError, ImportError):
        class_names = None  # the run's images are elsewhere
    return found.model, class_names, Path(options.output or Path(options.model, "exports"))


def _files(options, images, class_names):
    """(name, function, arguments) of each file."""
    compared = None if images is None else images[:MOST_COMPARED]
    for kind, name, write, extra in (
        ("savedmodel", "saved_model", to_saved_model, {"class_names": class_names}),
        ("tflite", "model.tflite", to_tflite, {}),
        ("onnx", "model.onnx", to_onnx, {}),
    ):
        if kind in options.format:
            yield name, write, {"images": compared, **extra}
    for quantization in dict.fromkeys(options.quantization):
        compared = None if images is None else images[: COMPARED_IMAGES.get(quantization, MOST_COMPARED)]
        calibration = {"representative_images": images} if QUANTIZATIONS[quantization].calibrates else {}
        extra = {"quantization": quantization, "images": compared, **calibration}
        yield f"model.{quantization}.tflite", to_tflite, extra


def _images(source, model, data_dir):
    """Images (N, size, size, C) of 0..255 of a folder or a dataset, evenly spread over it, as the network sees them."""
    if os.path.isdir(source) and (files := _image_files(source)):
        return np.stack([model.preprocessing.read(files[i]) for i in _spread(len(files))])
    dataset = data.load(source, "train", data_dir)
    raw, _ = dataset.fetch(_spread(len(dataset)))
    (view,) = views_of(model, dataset, None)
    return np.concatenate([view(dataset.decode(image)) for image in raw]).astype("float32")


def _image_files(folder):
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return sorted(path for path in paths if path.lower().endswith(DECODED))


def _spread(count):
    return np.unique(np.linspace(0, count - 1, min(count, CALIBRATION_IMAGES)).astype("int64"))
