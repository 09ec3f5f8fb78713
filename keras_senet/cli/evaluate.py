"""`keras-senet evaluate`: networks, ensembles and finished runs on a dataset."""

import contextlib
import dataclasses
import json
import math
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_senet import data
from keras_senet.cli import WEIGHTS_HELP, console, load_network, read_report, show
from keras_senet.evaluation.accuracy import evaluate
from keras_senet.evaluation.protocols import PROTOCOLS, larger
from keras_senet.evaluation.tables import per_class_csv, readable
from keras_senet.extras import require
from keras_senet.runs.load import is_run, load_run, results_folder
from keras_senet.weights import Checkpoint, resolve
from keras_senet_cli import quiet

PROTOCOL_NAMES = (*PROTOCOLS, "larger")
WORKDIR_HELP = (
    "a folder that training left, or a .keras file of `prune`, in place of --model and --weights"
)


def add_arguments(parser):
    """The flags of the command."""
    add = parser.add_argument
    add(
        "--model",
        action="append",
        metavar="NAME",
        help="a constructor's name, such as SEResNet50; several: an ensemble",
    )
    add(
        "--weights",
        action="append",
        metavar="W",
        help=f"{WEIGHTS_HELP}, one for each --model; default: imagenet",
    )
    add("--workdir", metavar="RUN", help=WORKDIR_HELP)
    add(
        "--dataset",
        metavar="NAME",
        help="digits, a tfds name or a folder; default: imagenet2012, or the run's own",
    )
    add("--split", default="test", help="default: %(default)s (ImageNet's validation images)")
    add("--data-dir", metavar="DIR", help="where tfds datasets are")
    add(
        "--protocol",
        default="own",
        metavar="NAME",
        help=f"{', '.join(PROTOCOL_NAMES)}; default: %(default)s",
    )
    add(
        "--size", type=int, nargs="+", default=(), metavar="N", help="sizes of the crops, in pixels"
    )
    add(
        "--short-side",
        type=int,
        nargs="+",
        default=(),
        metavar="N",
        help="short sides of the resized image, in pixels",
    )
    add("--ten-crop", action="store_true", help="centre, corners and their mirror images")
    add(
        "--batch-size",
        type=int,
        default=128,
        metavar="N",
        help="crops a step; default: %(default)s",
    )
    add("--skip-corrupt", action="store_true", help="leave out images that cannot be decoded")
    add(
        "--output",
        metavar="DIR",
        help="for report.json, per_class.csv and confusion.png; default: --workdir, or none",
    )


def run(options):
    """Accuracy of networks on a dataset; with a folder for it also as files."""
    names, models, dataset_name = load_networks(options)
    protocol, changes = _protocol(options)
    protocols = _protocols(protocol, changes, names)
    output = output_folder(
        options.output or (options.workdir and results_folder(options.workdir)), "train"
    )
    with console.status(f"opening {dataset_name}"):
        split = data.resolve_split(dataset_name, options.split, options.data_dir)
        dataset = data.load(dataset_name, split, options.data_dir, upright=_upright(models))
    result = _result(options, models, dataset, protocols)
    report = {
        **_figures(result),
        "dataset": dataset_name,
        "split": split,
        "protocol": {"name": protocol, **changes},
        "networks": [
            {
                "model": name,
                "weights": weights,
                "views": [dataclasses.asdict(view) for view in views],
            }
            for (name, weights), views in zip(names, result.views, strict=True)
        ],
    }
    _print(report, result)
    if output:
        _write(output, report, result, dataset.class_names)


def _upright(models):
    """Whether the networks were trained with upright images."""
    found = {model.preprocessing.upright for model in models}
    if len(found) > 1:
        raise ValueError(
            "The networks of an ensemble must agree on whether images are turned as EXIF says"
        )
    return found.pop()


def _result(options, models, dataset, protocols):
    with working(options.batch_size) as progress:
        return evaluate(
            models,
            dataset,
            batch_size=options.batch_size,
            protocol=protocols,
            skip_corrupt=options.skip_corrupt,
            progress=progress,
        )


@contextlib.contextmanager
def working(batch_size):
    """A console for a progress bar, on an error stream that TensorFlow's messages are held back
    from.

    Raises:
        ValueError: if the batches take more memory than there is.
    """
    import tensorflow as tf

    # TensorFlow writes of each image that it cannot decode; the progress bar has the error stream
    # for itself.
    with open(os.dup(2), "w") as errors, quiet():
        try:
            yield Console(file=errors)
        except tf.errors.ResourceExhaustedError as error:
            raise ValueError(
                f"--batch-size {batch_size} takes more memory than there is"
            ) from error


def output_folder(path, extra):
    """The folder for the results, or None; pictures need a library of the extra. It is made when
    there is something.

    Raises:
        OSError: if it cannot be written, which is known before the long work.
    """
    from keras_senet.files import check_folder

    if path is None:
        return None
    require("matplotlib", extra)
    check_folder(Path(path), "--output")
    return Path(path)


def load_networks(options):
    """Pairs of (name, weights), their networks, and the dataset's name, by --workdir, --model,
    --weights, --dataset.
    """
    if options.workdir:
        if options.model or options.weights:
            raise ValueError("--workdir is in place of --model and --weights")
        run = load_run(options.workdir)
        return (
            [(run.name, options.workdir)],
            [run.model],
            options.dataset or run.dataset or "imagenet2012",
        )
    if not options.model:
        raise ValueError("--model or --workdir must be given")
    weights = options.weights or ["imagenet"] * len(options.model)
    if len(weights) != len(options.model):
        raise ValueError(
            f"--weights must be given once for each --model: {len(weights)} for {len(options.model)}"
        )
    names = list(zip(options.model, weights, strict=True))
    networks = []
    for name, source in names:
        with console.status(f"loading {name} {source}"), quiet():
            networks.append(load_network(name, source))
    return names, networks, options.dataset or "imagenet2012"


def _protocol(options):
    """The name of the protocol, and the fields of it that other flags change."""
    if options.protocol not in PROTOCOL_NAMES:
        raise ValueError(
            f"--protocol must be one of {', '.join(PROTOCOL_NAMES)}. Received: {options.protocol!r}"
        )
    changes = {
        "sizes": tuple(options.size),
        "short_sides": tuple(options.short_side),
        "crop": "ten" if options.ten_crop else None,
    }
    return options.protocol, {field: value for field, value in changes.items() if value}


def _protocols(protocol, changes, names):
    """The protocol of each network; None, which takes images of the network's size whole, where
    nothing is asked.
    """
    if protocol == "own" and not changes:
        return None
    chosen = [_larger(*name) if protocol == "larger" else PROTOCOLS[protocol] for name in names]
    return [dataclasses.replace(each, **changes) for each in chosen]


def _larger(name, weights):
    found = None if is_run(weights) else resolve(weights, name)
    if not isinstance(found, Checkpoint):
        raise ValueError(
            f"--protocol larger is for published weights. Received: --weights {weights}"
        )
    return larger(found)


def _figures(result):
    """The numbers of `report.json`."""
    return {
        "accuracy": result.top1,
        "top5": result.top5,
        "loss": result.loss if math.isfinite(result.loss) else None,  # JSON has no NaN
        "images": int(result.images.sum()),
        "classes": len(result.images),
        "not_finite": result.not_finite,
        "skipped": [{"name": each.name, "reason": each.reason} for each in result.skipped],
    }


def _print(report, result):
    table = Table("network", "shown", title=f"{report['dataset']}, {report['split']}")
    for name in ("images", "top-1", "top-5", "loss"):
        table.add_column(name, justify="right")
    figures = (
        f"{report['images']:,}",
        f"{100 * result.top1:.2f}%",
        f"{100 * result.top5:.2f}%",
        f"{result.loss:.4f}",
    )
    names = [f"{network['model']} {network['weights']}" for network in report["networks"]]
    shown = ["\n".join(map(str, views)) for views in result.views]
    for row in zip(names, shown, strict=True):
        table.add_row(*row, *(figures if len(names) == 1 else ()))
    if len(names) > 1:
        table.add_section()
        table.add_row(f"average of {len(names)}", "", *figures)
    show(table)
    if result.skipped:
        console.print(
            f"left out, as they cannot be used: {', '.join(each.name for each in result.skipped)}"
        )
    if result.not_finite:
        console.print(
            f"{result.not_finite} images have answers that are not finite; they count as wrong"
        )


def _write(folder, report, result, class_names):
    """`report.json`, whose other entries stay as training left them, `per_class.csv` and
    `confusion.png`.
    """
    from keras_senet.files import write_atomically
    from keras_senet.plots import training as pictures

    folder.mkdir(parents=True, exist_ok=True)
    title = (
        " + ".join(network["model"] for network in report["networks"]) + f" on {report['dataset']}"
    )
    pictures.confusion_matrix(
        result.confusion, readable(class_names), folder / "confusion.png", title
    )
    write_atomically(folder / "per_class.csv", per_class_csv(result, class_names))
    write_atomically(
        folder / "report.json",
        json.dumps(read_report(folder / "report.json") | report, indent=2) + "\n",
    )
    console.print(f"{folder}/: report.json, per_class.csv, confusion.png", highlight=False)
