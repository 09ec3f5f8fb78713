"""Puts the networks of training runs on CIFAR-10 into the package: `weights="cifar10"`.

    python results/package_weights.py RUN [RUN ...] [--data-dir DIR]

A run on other images is refused. One that has ended gives its last weights, another one the best so
far. The kernels are rounded to
float16; then the accuracy on the 10,000 test images is measured, which `keras-senet list --weights`
shows. The plain network's tag is "cifar10-plain". A file of the same network is replaced.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import safetensors
import safetensors.numpy

from keras_senet import data, load_run
from keras_senet.evaluation import evaluate
from keras_senet.files import replacing
from keras_senet.recipes.se_text import write_se
from keras_senet.runs import RECIPE
from keras_senet.runs.record import read_record
from keras_senet.weights.metadata import METADATA
from keras_senet.weights.registry import FILES, list_packaged
from keras_senet.weights.saving import save_weights

TAGS = {"default": "cifar10", "none": "cifar10-plain"}
IMAGES = 50_000  # that CIFAR-10 has for training
LIMIT = 4 << 20  # bytes of all files


def round_kernels(model: keras.Model) -> None:
    """Rounds a network's kernels, most of the bytes, to float16; statistics may be too small."""
    for variable in model.weights:
        if len(variable.shape) > 1:
            variable.assign(keras.ops.convert_to_numpy(variable).astype("float16"))


def package_weights(
    model: keras.Model,
    name: str,
    tag: str,
    *,
    top1: float,
    top5: float,
    trained: str,
    folder: Path = FILES,
) -> Path:
    """Writes the weights of a network whose kernels are rounded to a file of this package, in place
    of one that is there, and returns its path.

    Args:
        model: the network, with `spec`, `preprocessing` and `class_names`.
        name, tag: the constructor's, and what `weights=` takes.
        top1, top5: its accuracy on the dataset's test images, in percent.
        trained: how the weights came about, in a line.
        folder: where the file is put.

    Raises:
        ValueError: if the files would have more than `LIMIT` together.
    """
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole.safetensors"
        save_weights(model, whole)
        with safetensors.safe_open(whole, framework="np") as file:
            about = json.loads(file.metadata()[METADATA])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
    figures = {"top1": round(top1, 2), "top5": round(top5, 2)}
    about["checkpoint"] = (
        _describe(model) | {"model": name, "tag": tag, "trained": trained} | figures
    )
    small = {k: a.astype("float16") if a.ndim > 1 else a for k, a in arrays.items()}
    content = safetensors.numpy.save(small, {METADATA: json.dumps(about)})
    path = folder / f"{name}-{tag}.safetensors"
    _check_limit(path, len(content))
    with replacing(path) as partial:
        partial.write_bytes(content)
    list_packaged.cache_clear()
    return path


def _describe(model: Any) -> dict[str, Any]:
    """The fields of a `Checkpoint` that a network knows, and those that its tests lack."""
    preprocessing = model.preprocessing
    return {
        "input_size": preprocessing.height,
        "crop_fraction": preprocessing.crop_fraction,
        "interpolation": preprocessing.interpolation,
        **dict.fromkeys(("test_size", "test_crop_fraction", "test_top1", "test_top5")),
        "parameters": round(model.count_params() / 1e6, 2),
    }


def _check_limit(path, count):
    others = sum(file.stat().st_size for file in path.parent.glob("*.safetensors") if file != path)
    if others + count > LIMIT:
        raise ValueError(
            f"The files of weights must have at most {LIMIT:,} bytes together. "
            f"Received: {count:,} with {others:,} of the others"
        )


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
