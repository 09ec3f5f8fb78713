"""Puts the networks of training runs on CIFAR-10 into the package: `weights="cifar10"`.

    python results/package_weights.py RUN [RUN ...] [--data-dir DIR]

A run on other images is refused. One that has ended gives its last weights, another one the best so
far. The kernels are rounded to
float16; then the accuracy on the 10,000 test images is measured, which `keras-senet list --weights`
shows. The plain network's tag is "cifar10-plain". A file of the same network is replaced.
"""

import argparse
import json
from pathlib import Path

from keras_senet import data, load_run
from keras_senet.evaluation import evaluate
from keras_senet.recipes.se_text import write_se
from keras_senet.runs import RECIPE
from keras_senet.runs.record import read_record
from keras_senet.weights.packaging import package_weights, round_kernels

TAGS = {"default": "cifar10", "none": "cifar10-plain"}
IMAGES = 50_000  # that CIFAR-10 has for training


def check_dataset(run, class_names):
    """Raises ValueError for a run whose classes and number of training images are not CIFAR-10's,
    whatever the name of its dataset: it may be a file.
    """
    about = json.loads((run / RECIPE).read_text())
    found = len(about["class_names"]), about["images"]["train"]["images"]
    if list(about["class_names"]) != list(class_names) or found[1] != IMAGES:
        raise ValueError(
            f"`RUN` must be trained on CIFAR-10, {IMAGES:,} images of {len(class_names)} classes. "
            f"Received: {str(run)!r}, on {about['recipe']['dataset']!r} with {found[1]:,} images "
            f"of {found[0]} classes"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data-dir", help="where tensorflow_datasets has CIFAR-10")
    options = parser.parse_args()
    test_set = data.load("cifar10", "test", options.data_dir)
    for run in options.runs:
        try:
            check_dataset(run, test_set.class_names)
        except (OSError, ValueError, KeyError) as error:
            parser.error(str(error))
        record = read_record(run)
        recipe = record.recipe
        tag = TAGS[write_se(recipe.se)]
        model = load_run(run)
        model.class_names = test_set.class_names
        round_kernels(model)
        result = evaluate(model, test_set)
        done = int(record.rows[-1]["epoch"])
        epochs = f"{done} epochs" if record.ended else f"the best of {done} epochs"
        path = package_weights(
            model,
            recipe.model,
            tag,
            top1=100 * result.top1,
            top5=100 * result.top5,
            trained=f"in this package: trained on CIFAR-10, {epochs} of {recipe.epochs}, "
            f"batch {recipe.batch_size}, seed {recipe.seed}",
        )
        print(f"{path}: {path.stat().st_size:,} bytes, {100 * result.top1:.2f}% of the test images")


if __name__ == "__main__":
    main()
