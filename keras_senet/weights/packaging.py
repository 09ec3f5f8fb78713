"""Trained weights as files of this package, which `weights="cifar10"` loads without a network."""

import json
import tempfile
from pathlib import Path
from typing import Any

import keras

from keras_senet.extras import require
from keras_senet.files import replacing
from keras_senet.weights.metadata import METADATA
from keras_senet.weights.registry import FILES, list_packaged
from keras_senet.weights.saving import save_weights

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
        with require("safetensors", "weights").safe_open(whole, framework="np") as file:
            about = json.loads(file.metadata()[METADATA])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
    figures = {"top1": round(top1, 2), "top5": round(top5, 2)}
    about["checkpoint"] = (
        _describe(model) | {"model": name, "tag": tag, "trained": trained} | figures
    )
    small = {k: a.astype("float16") if a.ndim > 1 else a for k, a in arrays.items()}
    save = require("safetensors.numpy", "weights").save
    content = save(small, {METADATA: json.dumps(about)})
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
