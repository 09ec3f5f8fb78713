"""`keras-senet export --all`: every network in every format and quantisation, each file run,
compared and removed.
"""

import contextlib
import csv
import dataclasses
import functools
import io
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_senet import data, models
from keras_senet.cli.options import ExportOptions
from keras_senet.cli.tables import console, status
from keras_senet.export.accuracy import LabelledImages
from keras_senet.export.files import FORMATS, plan_files
from keras_senet.export.formats import Common
from keras_senet.export.images import images_of
from keras_senet.export.inputs import synthetic_images
from keras_senet.export.parity import ParityError
from keras_senet.export.tflite import QUANTIZATIONS
from keras_senet.files import to_csv, write_atomically
from keras_senet.graphs import NORMALIZATIONS, graphs
from keras_senet.runs.load import load_run, read_origin
from keras_senet_cli import quiet

COLUMNS = (
    "network",
    "weights",
    "file",
    "failure",
    "seconds",
    "images",
    "bytes",
    "relative_error",
    "mean_abs_error",
    "sensitivity",
    "top1_agreement",
    "accuracy",
    "accuracy_change",
    "latency_ms",
    "peak_memory",
)
COMPARED_SYNTHETIC = 4
COMPARED_TEST = 500
BRANCH_SCALE = 0.3
# What integer files of a trained network must keep; one with random weights has nothing to agree
# on.
LEAST_AGREEMENT = 0.95
MOST_ACCURACY_LOST = 0.01
PLAN = plan_files(FORMATS, [name for name in QUANTIZATIONS if name])


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network to export.

    weights      what they are
    calibration  images to calibrate on
    images       those to compare on, of which files may take the first only
    evaluation   the dataset's test images, if the network was trained on it
    class_names  of the dataset
    """

    model: keras.Model
    weights: str
    calibration: np.ndarray
    images: np.ndarray
    evaluation: LabelledImages | None = None
    class_names: tuple | None = None

    def row(self, file):
        """The row of a file, which is written and removed."""
        start = time.perf_counter()
        images = file.compared(self.images, most=COMPARED_TEST)
        row = {"network": self.model.name, "weights": self.weights, "file": file.name}
        try:
            with tempfile.TemporaryDirectory() as folder:
                common = Common(
                    images=images,
                    class_names=self.class_names,
                    representative_images=self.calibration,
                    evaluation=None if file.is_slow else self.evaluation,
                )
                report = file.write(self.model, folder, common)
            if report.accuracy is not None:
                row["accuracy_change"] = report.accuracy - report.keras_accuracy
            row |= {
                name: value for name, value in dataclasses.asdict(report).items() if name in COLUMNS
            }
            row["failure"] = self._failure(file, row)
        except (ParityError, ValueError) as error:
            row["failure"] = str(error)
        return row | {"seconds": time.perf_counter() - start, "images": len(images)}

    def _failure(self, file, row):
        if self.evaluation is None or not file.calibrates:
            return ""
        if row["top1_agreement"] < LEAST_AGREEMENT:
            agreement = f"{row['top1_agreement']:.1%} top-1 agreement"
            return f"{agreement}, and {LEAST_AGREEMENT:.0%} are asked for"
        if row.get("accuracy_change", 0) < -MOST_ACCURACY_LOST:
            own = row["accuracy"] - row["accuracy_change"]
            return f"an accuracy of {row['accuracy']:.1%}, and Keras has {own:.1%}"
        return ""


def run(options: ExportOptions) -> None:
    """Adds the rows that are missing to `export.csv`, and writes `export.md` from it.

    Raises:
        ParityError: at the end, if a file failed.
    """
    networks = [*_trained_networks(options.model, options.data_dir), *_random_networks()]
    names = [name for name, _ in networks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"export --all takes one MODEL of a kind. Received: two of {', '.join(twice)}"
        )
    folder = Path(options.output or "results")
    folder.mkdir(parents=True, exist_ok=True)
    table = ExportTable(folder / "export.csv")
    for name, load in networks:
        missing = [file for file in PLAN if not table.has(name, file.name)]
        if missing:
            with status(f"loading {name}"), quiet():
                subject = load()
            for file in missing:
                with status(f"{name}: {file.name}"), quiet():
                    table.add(subject.row(file) | {"network": name})
            keras.backend.clear_session()
    write_atomically(folder / "export.md", table.markdown())
    console.print(f"{len(table.rows)} files, {len(table.failures)} failed: {folder / 'export.md'}")
    if table.failures:
        raise ParityError(
            "; ".join(f"{row['network']} {row['file']}: {row['failure']}" for row in table.failures)
        )


def _random_networks():
    for name in models.__all__:
        yield name, lambda name=name: _with_random_weights(models.get(name))


def _trained_networks(workdirs, data_dir):
    for workdir in workdirs:
        origin = read_origin(workdir)
        load = functools.partial(_trained, load_run(workdir), origin, data_dir)
        yield f"{origin.name} on {origin.dataset}", load


def _trained(model, origin, data_dir):
    options = {"upright": model.preprocessing.upright, **origin.division}
    test = data.load(origin.dataset, "test", data_dir, **options)
    calibration, _ = images_of(model, data.load(origin.dataset, "train", data_dir, **options))
    calibration = calibration.astype("float32")
    images, labels = images_of(model, test, most=None)
    weights, evaluation = f"trained on {origin.dataset}", LabelledImages(images, labels)
    images = images.astype("float32")
    return Subject(model, weights, calibration, images, evaluation, test.class_names)


def _with_random_weights(constructor):
    keras.utils.set_random_seed(0)
    model = constructor(weights=None)
    images = synthetic_images(model, model.preprocessing)
    _calibrate_batch_norm(model, images)
    return Subject(model, "random", images, images[:COMPARED_SYNTHETIC])


def _calibrate_batch_norm(model, images):
    """Gives batch normalisation the statistics of these images, without which depth makes a signal
    grow or vanish.

    And a smaller scale, but for shortcuts, so that residual branches add less than they are given,
    as after training: at 1 a hundred random layers turn a float16 rounding into another output.
    """
    (graph,) = graphs(model)
    calls = [node for node in graph.nodes if isinstance(node.operation, NORMALIZATIONS)]
    with contextlib.ExitStack() as stack:
        for norm, consumer in ((node.operation, graph.consumer(node)) for node in calls):
            stack.callback(setattr, norm, "momentum", norm.momentum)
            norm.momentum = 0.0
            is_shortcut = consumer is not None and isinstance(consumer.operation, keras.layers.Add)
            if norm.scale and not is_shortcut:
                norm.gamma.assign(BRANCH_SCALE * norm.gamma)
        model(model.preprocessing.normalize(images), training=True)


class ExportTable:
    """The rows of `export.csv`, which is written again with each."""

    def __init__(self, path):
        self.path = path
        found = csv.DictReader(io.StringIO(path.read_text())) if path.exists() else ()
        self.rows = {(row["network"], row["file"]): row for row in found}

    def has(self, network, file):
        """Whether there is a row of this file that did not fail."""
        row = self.rows.get((network, file))
        return row is not None and not row["failure"]

    @property
    def failures(self):
        """The rows of the files that are wrong."""
        return [row for row in self.rows.values() if row["failure"]]

    def add(self, row):
        """Puts a row in the place of an earlier one of the same file, or last."""
        cells = {name: _rounded(row.get(name, "")) for name in COLUMNS}
        self.rows[row["network"], row["file"]] = cells
        write_atomically(self.path, to_csv(list(self.rows.values()), COLUMNS, newline="\n"))

    def markdown(self):
        """The same for readers: a row per network, a column per file."""
        names = [file.name for file in PLAN]
        lines = [_HEAD, f"| network | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
        for network in dict.fromkeys(network for network, _ in self.rows):
            cells = (_cell(self.rows.get((network, name))) for name in names)
            lines.append(f"| {network} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


_HEAD = """# Every network in every format

Made by `keras-senet export --all`. Each file was run in its own runtime and compared with the Keras
model, on a CPU shared with other jobs: latencies are comparable only within a row. A cell has the
relative error (max. abs. error / max. abs. output), the top-1 agreement with Keras over a number of
images, the accuracy, the size, and the latency in ms/image.

Networks without a dataset in their name have random weights, and batch normalisation statistics
computed on the images: their outputs are nearly equal for all classes, so top-1 agreement says
little about their integer files. `export.csv` has all numbers.
"""


def _cell(row):
    if row is None:
        return "not run"
    if not row["bytes"]:
        return "failed"
    same = f"{100 * float(row['top1_agreement']):.0f}% of {row['images']}"
    size = f"{int(row['bytes']) / 2**20:.1f} MiB"
    right = f", {100 * float(row['accuracy']):.2f}% correct" if row.get("accuracy") else ""
    error, latency = f"{float(row['relative_error']):.0e}", f"{float(row['latency_ms']):.1f} ms"
    figures = f"{error}, {same}{right}, {size}, {latency}"
    return f"failed: {figures}" if row["failure"] else figures


def _rounded(value):
    return f"{value:.4g}" if isinstance(value, float) else value
