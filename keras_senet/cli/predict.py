"""`keras-senet predict`: the top-k classes of images."""

import keras
import numpy as np
from rich.table import Table

from keras_senet.analysis import gates_by_stage
from keras_senet.cli.network import load_network
from keras_senet.cli.options import PredictOptions
from keras_senet.cli.tables import console, make_table, show, show_json
from keras_senet.imagenet import decode_predictions
from keras_senet_cli import quiet


def run(options: PredictOptions) -> None:
    """Prints the top-k classes of each image, prepared as the weights were evaluated."""
    weights = options.weights or "imagenet"
    with console.status(f"loading {weights}"), quiet():
        model = load_network(options.model, weights)
    if len(model.output_shape) != 2:
        raise ValueError(f"--weights has no classifier: {weights!r}")
    if options.top > model.output_shape[-1]:
        raise ValueError(
            f"--top must be 1..{model.output_shape[-1]}. Received: --top {options.top}"
        )
    rows = []
    for path in options.images:
        images, probabilities = _predict(model, path)
        found = _top_classes(probabilities, options.top)
        gates = gates_by_stage(model, images) if options.gates else {}
        if options.json:
            row = {"image": path, "predictions": [{"class": c, "probability": p} for c, p in found]}
            rows.append(row | ({"gates": gates} if options.gates else {}))
            continue
        table = make_table(path, "class", "probability")
        for name, probability in found:
            table.add_row(name, f"{100 * probability:.2f}%")
        show(table)
        if options.gates:
            show(_gates_table(gates))
    if options.json:
        show_json(rows)


def _predict(model, path):
    """(the image as the network's input, a batch of one; its probabilities)."""
    with quiet():
        image = model.preprocessing.read(path)
        if keras.config.image_data_format() == "channels_first":
            image = image.transpose(2, 0, 1)
        images = model.preprocessing.normalize(image[np.newaxis])
        (probabilities,) = model.predict(images, verbose=0)
    return images, probabilities


def _top_classes(probabilities, top) -> list[tuple[str, float]]:
    """Pairs of (name, probability), by ImageNet's names where there are 1,000 classes."""
    if len(probabilities) == 1000:
        (found,) = decode_predictions(probabilities[None], top)
        return [(f"{name} ({wordnet_id})", float(score)) for wordnet_id, name, score in found]
    order = (-probabilities).argsort(kind="stable")[:top]
    return [(f"class {i}", float(probabilities[i])) for i in order]


def _gates_table(means) -> Table:
    """The mean gate of each stage, the most excited one marked."""
    table = make_table("Gates, 0..1", "stage", "mean", "")
    for stage, mean in means.items():
        table.add_row(stage, f"{mean:.3f}", "most excited" if mean == max(means.values()) else "")
    return table
