"""The subcommands of `keras-senet`; each imports what it needs."""

import argparse
import contextlib
import dataclasses
import importlib
import json
import logging
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_senet_cli import COMMANDS, EXPECTED, quiet

console = Console()
WIDEST = 1000  # characters


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def main(arguments):
    """Runs a subcommand. Bad input ends with one line on the error stream and status 2."""
    options = _parser(arguments[0]).parse_args(arguments)
    try:
        with _messages(options.command):
            options.run(options)
    except EXPECTED as error:
        if options.traceback:
            raise
        print(
            f"keras-senet {options.command}: error: {' '.join(str(error).split())}", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def _messages(command):
    """What the package logs, as lines on the error stream: which weights of a file it has taken,
    for example.
    """
    logger, handler = logging.getLogger("keras_senet"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"keras-senet {command}: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _parser(asked):
    """Knows all subcommands, and the arguments of the one that is asked for."""
    parser = Parser(prog="keras-senet")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--traceback", action="store_true", help="show where in the program an error arose"
        )
        if name == asked:
            run, add_arguments = _subcommand(name)
            add_arguments(command)
            command.set_defaults(run=run)
    return parser


def _subcommand(name):
    """(what runs it, what adds its arguments to a parser)."""
    found = SUBCOMMANDS[name]
    if isinstance(found, tuple):
        return found
    module = importlib.import_module(found)
    return module.run, module.add_arguments


def _add_list_arguments(parser):
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--paper", action="store_true", help="beside the paper's GFLOPs, with and without SE blocks"
    )
    what.add_argument("--weights", action="store_true", help="the published weights")
    what.add_argument("--recipes", action="store_true", help="the named recipes of training")


def list_models(options):
    """Every network of the registry, counted on its built graph."""
    from rich.progress import track

    from keras_senet import models

    if options.weights or options.recipes:
        (list_weights if options.weights else list_recipes)()
        return
    table = PaperTable() if options.paper else CountTable()
    errors = Console(stderr=True)
    for name in track(
        models.__all__, "counting", console=errors, transient=True, disable=not errors.is_terminal
    ):
        table.add(name, models.get(name))
    show(table.table)


def list_weights():
    """The published weights with the accuracy that their publishers state, and where they come
    from.
    """
    from keras_senet.weights import list_weights

    columns = ("network", "tag", "top-1", "top-5", "size", "parameters", "licence")
    table = make_table("Published ImageNet weights", *columns)
    for w in list_weights():
        figures = (f"{w.top1:.2f}", f"{w.top5:.2f}", f"{w.input_size}", f"{w.parameters:.2f} M")
        table.add_row(w.model, w.tag, *figures, w.licence)
    show(table)
    for w in list_weights():
        console.print(f"{w.model} {w.tag}: {w.source}", soft_wrap=True, highlight=False)


def list_recipes():
    """The named recipes: what they train, where the protocol is stated, what it gave."""
    from keras_senet.training import RECIPES

    table = make_table(
        "Recipes of keras-senet train", "recipe", "network", "dataset", "epochs", "batch", "rate"
    )
    for name, recipe in RECIPES.items():
        figures = (f"{recipe.epochs}", f"{recipe.batch_size}", f"{recipe.learning_rate:g}")
        table.add_row(name, recipe.model, recipe.dataset, *figures)
    show(table)
    for name, recipe in RECIPES.items():
        console.print(
            f"{name}: {recipe.source}. Result: {recipe.result}", soft_wrap=True, highlight=False
        )


def make_table(title, *columns):
    """A table whose columns behind the first are numbers."""
    table = Table(*columns, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def show(table):
    """Prints a table as wide as it is: a terminal that is narrower wraps it, and no name or figure
    is cut.
    """
    own = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    Console(width=max(own, console.width)).print(table)


def _counts(constructor, **options):
    """The `Complexity` of a network, whose weights get no values."""
    from keras_senet.complexity import complexity
    from keras_senet.initializers import shapes_only

    with shapes_only():
        return complexity(constructor(weights=None, **options))


class CountTable:
    """Input size, parameters and multiply-adds of each network."""

    def __init__(self):
        self.table = make_table(
            "Networks of keras_senet", "model", "input", "parameters", "multiply-adds"
        )

    def add(self, name, constructor):
        counts = _counts(constructor)
        size = f"{constructor.input_size} x {constructor.input_size}"
        self.table.add_row(name, size, f"{counts.parameters:,}", f"{counts.multiply_adds:,}")


class PaperTable:
    """GFLOPs of each network and its plain counterpart beside those of the paper's Tables 2 and 3."""

    def __init__(self):
        self.table = make_table(
            "GFLOPs: one a multiply-add, and one a rescaled element",
            "model",
            "plain",
            "paper",
            "SE",
            "+ rescaling",
            "paper",
        )

    def add(self, name, constructor):
        from keras_senet.models.paper import GFLOPS

        plain, counts = (
            _counts(constructor.variant(spec))
            for spec in (dataclasses.replace(constructor.spec, se=None), constructor.spec)
        )
        decimals = 3 if counts.multiply_adds < 1e9 else 2
        paper = [f"{figure:.{decimals}f}" for figure in GFLOPS.get(name, ())] or ["-", "-"]
        figures = (plain.multiply_adds, counts.multiply_adds, counts.multiply_adds_with_rescaling)
        ours = [f"{figure / 1e9:.{decimals}f}" for figure in figures]
        self.table.add_row(name, ours[0], paper[0], ours[1], ours[2], paper[1])


def _add_summary_arguments(parser):
    parser.add_argument("model", metavar="MODEL", help="a constructor's name, such as SEResNet50")
    parser.add_argument(
        "--size", type=int, help="height and width of the images; default: the network's own"
    )


def summary(options):
    """One network: its spec, and parameters and multiply-adds stage by stage."""
    from keras_senet import models

    constructor = models.get(options.model)
    size = constructor.input_size if options.size is None else options.size
    counts = _counts(constructor, input_shape=(size, size, 3))
    title = f"{options.model} at {size} x {size}"
    table = make_table(title, "stage", "output", "parameters", "multiply-adds", "rescaled")
    for stage in counts.stages():
        shape = " x ".join(map(str, stage.output_shape))
        table.add_row(stage.name, shape, *(f"{n:,}" for n in _counted(stage)))
    table.add_section()
    table.add_row("total", "", *(f"{n:,}" for n in _counted(counts)))
    console.print(constructor.spec)
    show(table)
    console.print(
        f"with batch-normalisation statistics {counts.parameters_with_statistics:,} parameters; "
        f"with one for each rescaled element {counts.multiply_adds_with_rescaling:,} multiply-adds"
    )


def _counted(row):
    return row.parameters, row.multiply_adds, row.rescaled


WEIGHTS_HELP = (
    "a tag such as imagenet (`keras-senet list --weights`), a file, FILE#NAME for a part of a checkpoint, "
    "or hf://owner/name"
)


def _add_model_arguments(parser):
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="a constructor's name, such as SEResNet50"
    )


def load_network(name, weights, size=None):
    """A network with as many classes and channels as its weights have, and without a classifier if
    they have none.

    `size` is (H, W) of its images, where None leaves a side open; None is the network's own.
    """
    import keras

    from keras_senet import models
    from keras_senet.weights import open_weights, resolve

    constructor = models.get(name)
    source = resolve(weights, constructor.base.name)
    with open_weights(source, constructor.spec, constructor.preprocessing) as stored:
        classes, channels = stored.classes(), stored.channels()
    options = {} if classes is None else {"classes": classes}
    if size is not None:
        is_last = keras.config.image_data_format() == "channels_last"
        options["input_shape"] = (*size, channels) if is_last else (channels, *size)
    return constructor(weights=weights, include_top=classes is not None, **options)


def _add_convert_arguments(parser):
    parser.add_argument("source", metavar="SOURCE", help=WEIGHTS_HELP)
    _add_model_arguments(parser)
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="a .weights.h5 or .safetensors file"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def convert(options):
    """Reads weights of any kind and writes them with the architecture that they belong to."""
    from keras_senet.weights import save_weights
    from keras_senet.weights.saving import check_path

    check_path(options.output)
    if Path(options.output).exists() and not options.overwrite:
        raise ValueError(f"--output exists: {options.output!r}. Pass --overwrite to replace it")
    with console.status(f"loading {options.source}"), quiet():
        model = load_network(options.model, options.source)
    save_weights(model, options.output)
    console.print(model.spec)
    console.print(f"{options.output}: {model.count_params():,} weights")


def _add_predict_arguments(parser):
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG, PNG, BMP or GIF files")
    _add_model_arguments(parser)
    parser.add_argument(
        "--weights", default="imagenet", help=f"{WEIGHTS_HELP}; default: %(default)s"
    )
    parser.add_argument("--top", type=int, default=5, help="how many classes; default: %(default)s")
    parser.add_argument(
        "--gates", action="store_true", help="also the mean of the SE blocks' gates, stage by stage"
    )


def predict(options):
    """The likeliest classes of each image, prepared as the weights were evaluated."""
    import keras
    import numpy as np

    with console.status(f"loading {options.weights}"), quiet():
        model = load_network(options.model, options.weights)
    if len(model.output_shape) != 2:
        raise ValueError(f"--weights has no classifier: {options.weights!r}")
    if not 1 <= options.top <= model.output_shape[-1]:
        raise ValueError(
            f"--top must be 1..{model.output_shape[-1]}. Received: --top {options.top}"
        )
    for path in options.images:
        with quiet():
            image = model.preprocessing.read(path)
            if keras.config.image_data_format() == "channels_first":
                image = image.transpose(2, 0, 1)
            images = model.preprocessing.normalize(image[np.newaxis])
            (probabilities,) = model.predict(images, verbose=0)
        table = make_table(path, "class", "probability")
        for name, probability in _likeliest(probabilities, options.top):
            table.add_row(name, f"{100 * probability:.2f}%")
        show(table)
        if options.gates:
            show(_gates_table(model, images))


def _likeliest(probabilities, top):
    """Pairs of (name, probability), by ImageNet's names where there are 1,000 classes."""
    from keras_senet import decode_predictions

    if len(probabilities) == 1000:
        (found,) = decode_predictions(probabilities[None], top)
        return [(f"{name} ({wordnet_id})", score) for wordnet_id, name, score in found]
    order = (-probabilities).argsort(kind="stable")[:top]
    return [(f"class {i}", float(probabilities[i])) for i in order]


def _gates_table(model, images):
    """The mean gate of each stage, the most excited one marked."""
    from keras_senet.analysis import gates_by_stage

    means = gates_by_stage(model, images)
    table = make_table("Gates, 0..1", "stage", "mean", "")
    for stage, mean in means.items():
        table.add_row(stage, f"{mean:.3f}", "most excited" if mean == max(means.values()) else "")
    return table


def _add_quickstart_arguments(parser):
    parser.add_argument(
        "--workdir", default="quickstart", help="where everything is left; default: %(default)s"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of weights, order and augmentation; default: %(default)s",
    )


QUICKSTART_NEEDS = {
    "train": ("sklearn", "matplotlib"),
    "export": ("ai_edge_litert.interpreter", "onnx", "onnxruntime", "tf2onnx"),
}


def quickstart(options):
    """Trains SE-ResNet-20 on the digits, evaluates it, exports every format, and reports."""
    from keras_senet.evaluation import evaluate
    from keras_senet.extras import require
    from keras_senet.plots import training as pictures
    from keras_senet.training import RECIPES, Trainer

    for extra, modules in QUICKSTART_NEEDS.items():
        for module in modules:
            require(module, extra)
    workdir = Path(options.workdir)
    with quiet():  # the first use of a device
        trainer = Trainer(dataclasses.replace(RECIPES["digits"], seed=options.seed), workdir)
    console.print(
        f"{trainer.recipe.model} on {len(trainer.train_set):,} handwritten digits; results in {workdir}/"
    )
    trainer.train()
    test_set = trainer.test_set
    result = evaluate(trainer.model, test_set, step=trainer.prediction_step)
    pictures.confusion_matrix(
        result.confusion, test_set.class_names, workdir / "confusion.png", trainer.title
    )
    console.print(f"accuracy on the {len(test_set)} test digits: {100 * result.top1:.2f}%")
    reports = _export_all(trainer, workdir / "exports")
    write_report(workdir / "report.json", reports, accuracy=float(result.top1), loss=result.loss)
    show(export_table(reports))


def _export_all(trainer, folder):
    """Each format with the normalisation in its graph, compared with Keras on all test images."""
    from keras_senet import export

    model = trainer.model
    common = {
        "images": trainer.test_set.images.astype("float32"),
        "preprocessing": model.preprocessing,
        "overwrite": True,
    }
    calibration = trainer.train_set.images[:200].astype("float32")
    reports = []
    for write, name, options in (
        (export.to_saved_model, "saved_model", {}),
        (export.to_tflite, "model.tflite", {}),
        (
            export.to_tflite,
            "model.int8.tflite",
            {"quantization": "int8", "representative_images": calibration},
        ),
        (export.to_onnx, "model.onnx", {}),
    ):
        with console.status(f"exporting {name}"), quiet():
            reports.append(write(model, folder / name, **common, **options))
    return reports


def write_report(path, reports, **figures):
    """`report.json`: some figures, and the fields of each ExportReport, in the place of an earlier
    one of its file.
    """
    from keras_senet.files import write_atomically

    exports = {
        each["path"]: each
        for each in figures.pop("exports", ())
        if isinstance(each, dict) and "path" in each
    }
    exports |= {report.path: dataclasses.asdict(report) for report in reports}
    write_atomically(
        path, json.dumps(figures | {"exports": list(exports.values())}, indent=2) + "\n"
    )


def read_report(path):
    """What a `report.json` says; nothing without one.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged ({error}); remove it or choose another --output"
        ) from error


def export_table(reports):
    """The reports as a table."""
    columns = (
        "file",
        "KiB",
        "largest difference",
        "relative",
        "sensitivity",
        "same class",
        "ms an image",
    )
    table = make_table("Exports, beside Keras", *columns)
    for report in reports:
        table.add_row(
            Path(report.path).name,
            f"{report.bytes / 1024:,.0f}",
            f"{report.max_abs_error:.1e}",
            f"{report.relative_error:.1e}",
            "-" if report.sensitivity is None else f"{report.sensitivity:.1e}",
            f"{100 * report.top1_agreement:.2f}%",
            f"{report.latency_ms:.2f}",
        )
    return table


def _add_curves_arguments(parser):
    parser.add_argument(
        "workdirs", nargs="+", metavar="WORKDIR", help="what `keras-senet train` left"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="a PNG file")
    parser.add_argument("--title", default="", help="of the picture")


def curves(options):
    """The error of several runs, epoch by epoch; runs that differ in the seed alone have one
    colour.
    """
    from keras_senet.plots.training import compared_curves
    from keras_senet.runs.workdir import read_run
    from keras_senet.training.network import describe

    runs = {}
    for workdir in options.workdirs:
        recipe, rows = read_run(workdir)
        runs.setdefault(describe(recipe), []).append(rows)
    compared_curves(runs, options.output, options.title)


# A subcommand's functions, or the module that has them as `run` and `add_arguments`
SUBCOMMANDS = {
    "quickstart": (quickstart, _add_quickstart_arguments),
    "list": (list_models, _add_list_arguments),
    "summary": (summary, _add_summary_arguments),
    "train": "keras_senet.cli.train",
    "evaluate": "keras_senet.cli.evaluate",
    "curves": (curves, _add_curves_arguments),
    "predict": (predict, _add_predict_arguments),
    "convert": (convert, _add_convert_arguments),
    "excitations": "keras_senet.cli.excitations",
    "ablate": "keras_senet.cli.ablate",
    "prune": "keras_senet.cli.prune",
    "report": "keras_senet.cli.report",
    "export": "keras_senet.cli.export",
}
