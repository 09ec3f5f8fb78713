"""`keras-senet predict`: the top-k classes of images.

Keras is imported for Keras models only: an exported file runs without it.
"""

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from keras_senet.cli.image_rows import check_csv, report
from keras_senet.cli.options import PredictOptions
from keras_senet.cli.options.sources import EXPORTED
from keras_senet.cli.tables import collect, console, make_table, show, status
from keras_senet.files import printable
from keras_senet.imagenet import imagenet_classes
from keras_senet.images.walk import describe_left_out, list_images
from keras_senet.preprocessing import Preprocessing
from keras_senet_cli import quiet

TOP = 5
COLUMNS = ("image", "rank", "class", "probability", "error")


class Classifier(NamedTuple):
    """What predicts: a Keras model or an exported file.

    preprocessing  of its images
    class_names    as they are shown, in the order of its outputs
    compute        images (N, H, W, C), float32 of 0..255, to probabilities (N, classes)
    gates          the same images to the mean gate of each stage
    """

    preprocessing: Preprocessing
    class_names: list[str]
    compute: Callable[[np.ndarray], np.ndarray]
    gates: Callable[[np.ndarray], dict[str, float]] | None = None


class Shown(NamedTuple):
    """One image: its top classes with their probabilities, and gates; or why there are none."""

    image: str
    found: list[tuple[str, float]]
    gates: dict[str, float]
    error: str = ""


def run(options: PredictOptions) -> None:
    """Prints the top-k classes of each image, prepared as the weights were evaluated."""
    found = list_images(options.images)
    check_csv(options.csv)
    if found.left_out:
        console.print(describe_left_out(found.left_out))
    several = len(found.images) > options.batch_size
    classifier = _load(options, several)
    classes = len(classifier.class_names)
    if options.top is not None and options.top > classes:
        raise ValueError(f"--top must be 1..{classes}. Received: --top {options.top}")
    top = min(options.top or TOP, classes)
    rows = collect(_predict(classifier, found.images, top, options), several, len(found.images))
    report(
        options,
        rows,
        COLUMNS,
        to_lines=_to_lines,
        to_json=lambda row: _to_json(row, options.gates),
        show=_print,
    )


def _load(options, several):
    (source,) = options.sources
    if source.kind in EXPORTED:
        from keras_senet.export.reading import open_exported

        with status(f"loading {source.text}"), quiet():
            exported = open_exported(source.kind, source.text)
        names = _names(source, exported.class_names, exported.shape)
        return Classifier(exported.preprocessing, names, exported.compute)
    with quiet():
        from keras_senet.cli.network import load_network  # imports Keras

    model = load_network(source, options.weights).model
    return _of_model(source, model, several)


def _of_model(source, model, several):
    """`several` batches are worth the seconds that it takes to compile the model."""
    import keras

    from keras_senet.graphs import has_logits
    from keras_senet.layers.data_format import from_channels_last

    if not hasattr(model, "preprocessing"):
        raise ValueError(f"{source.text!r} does not say how images are prepared for it")
    if not isinstance(model.output_shape, tuple):
        raise ValueError(f"{source.text!r} must have one output. Received: {model.output_shape}")
    _check_input(source, model)

    def prepare(images):
        return model.preprocessing.normalize(from_channels_last(images))

    takes_softmax = has_logits(model)

    def compute(images):
        prepared = prepare(images)
        outputs = model.predict_on_batch(prepared) if several else model(prepared, training=False)
        outputs = keras.ops.cast(outputs, "float32")
        return keras.ops.convert_to_numpy(keras.ops.softmax(outputs) if takes_softmax else outputs)

    def gates(images):
        from keras_senet.analysis.excitations import gates_by_stage

        return gates_by_stage(model, prepare(images))

    names = _names(source, getattr(model, "class_names", None), model.output_shape[1:])
    return Classifier(model.preprocessing, names, compute, gates)


def _check_input(source, model):
    """Raises ValueError unless the network takes what its preprocessing makes of images."""
    from keras_senet.layers.data_format import arrange, fits

    own = model.preprocessing
    made = arrange(own.height, own.width, len(own.mean))
    taken = model.input_shape[1:] if isinstance(model.input_shape, tuple) else ()
    if not fits(made, taken):
        raise ValueError(
            f"{source.text!r} must take images as it prepares them, of shape {made}. Received: a "
            f"network whose input is {model.input_shape}"
        )


def _names(source, class_names, shape):
    """The names of the classes as they are shown, ImageNet's with their words."""
    if len(shape) != 1:
        raise ValueError(
            f"{source.text!r} has no classifier: its outputs are of shape {tuple(shape)}"
        )
    words = {each.wordnet_id: f"{each.name} ({each.wordnet_id})" for each in imagenet_classes()}
    if class_names is None:
        return list(words.values()) if shape == (1000,) else [f"class {i}" for i in range(*shape)]
    if len(class_names) != shape[0]:
        raise ValueError(
            f"{source.text!r} has {len(class_names)} names of classes, and {shape[0]} outputs"
        )
    return [words.get(name, name) for name in class_names]


def _predict(classifier, files, top, options) -> Iterator[Shown]:
    """A row for each file; a few batches are in memory at a time."""
    images = _read(classifier.preprocessing.read, files, 2 * options.batch_size)
    while batch := list(itertools.islice(images, options.batch_size)):
        good = [image for _, image in batch if not isinstance(image, Exception)]
        filled = options.batch_size if len(files) > options.batch_size else len(good)
        scores = _compute(classifier, good, filled) if good else []
        remaining = iter(scores)
        for file, image in batch:
            name = printable(file)
            if isinstance(image, Exception):
                yield Shown(name, [], {}, " ".join(str(image).split()))
                continue
            row = next(remaining)
            if not np.isfinite(row).all():
                yield Shown(name, [], {}, "the network's outputs are not finite")
                continue
            best = (-row).argsort(kind="stable")[:top]
            found = [(classifier.class_names[i], float(row[i])) for i in best]
            gates = classifier.gates(image[None]) if options.gates and classifier.gates else {}
            yield Shown(name, found, gates)


def _read(read, files: Iterable[str], ahead: int) -> Iterator[tuple[str, Any]]:
    """(file, its image or the error) of each, in order; threads read a number of them ahead."""

    def attempt(file):
        try:
            return read(file)
        except (ValueError, OSError) as error:
            return error

    pending = collections.deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file in files:
            pending.append((file, pool.submit(attempt, file)))
            if len(pending) > ahead:
                file, image = pending.popleft()
                yield file, image.result()
        for file, image in pending:
            yield file, image.result()


def _compute(classifier, images, size):
    """The probabilities of images, filled up to a batch of this size: another is compiled again."""
    padding = [images[0]] * (size - len(images))
    return classifier.compute(np.stack([*images, *padding]))[: len(images)]


def _to_lines(row):
    for rank, (name, probability) in enumerate(row.found, 1):
        yield {"image": row.image, "rank": rank, "class": name, "probability": probability}


def _to_json(row, with_gates):
    predictions = [{"class": name, "probability": p} for name, p in row.found]
    gates = {"gates": row.gates} if with_gates else {}
    return {"image": row.image, "predictions": predictions} | gates


def _print(rows):
    table = make_table("Predictions", "image", "class", "probability")
    table.columns[1].justify = "left"
    for row in rows:
        if row.error:
            table.add_row(row.image, f"cannot be used: {row.error}", "")
        for rank, (name, probability) in enumerate(row.found):
            image = "" if rank else row.image
            table.add_row(image, name, f"{100 * probability:.2f}%")
    show(table)
    for row in rows:
        if row.gates:
            show(_gates_table(row))


def _gates_table(row) -> Table:
    most = max(row.gates.values())
    rows = (
        (stage, f"{mean:.3f}", "most excited" if mean == most else "")
        for stage, mean in row.gates.items()
    )
    return make_table(f"Gates of {row.image}, 0..1", "stage", "mean", "", rows=rows)
