"""A model's weights, with the architecture that they belong to: into a file, and back."""

import errno
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_senet.bases import base_preprocessing, require_base
from keras_senet.copying import finalize_normalizations, set_weights
from keras_senet.extras import require
from keras_senet.files import replacing
from keras_senet.weights.loading import check_values, open_weights
from keras_senet.weights.metadata import METADATA, about, check_ending, describe
from keras_senet.weights.names import keras_places, name_variables, to_own

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OVERHEAD = 4096  # bytes that a file and each array in it take, at most


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes the weights of a network, with its `spec` and `preprocessing`, to a `.weights.h5` or
    `.safetensors` file.

    Keras reads the former too. The file appears whole or not at all: after an interrupted run an
    earlier one is still there. Names in a `.safetensors` file are those of the layers, such as
    "stage3_block2_conv1.kernel", in Keras' layout.

    The model may contain the network, and layers of yours: `load_weights` loads such a file into a
    model that is built alike, and the network's constructor takes its own part of it with
    `include_top=False`. The names of the other weights begin with "head.".

    Raises:
        ValueError: for another file name, a model without a network of this package, or variables
            of bfloat16 in a `.weights.h5` file.
        MissingExtraError: for `.safetensors` without the extra `weights`.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    check_path(path)
    base = require_base(model, "Use `model.save_weights` for it")
    if path.name.endswith(".weights.h5") and any(
        variable.dtype == "bfloat16" for variable in model.weights
    ):
        raise ValueError(
            f"`.weights.h5` cannot hold bfloat16: use `.safetensors`. Received: path={str(path)!r}"
        )
    write = _write_keras if path.name.endswith(".weights.h5") else _write_safetensors
    with replacing(path) as partial:
        _reserve(partial, model)
        write(model, base, partial)


def _reserve(file, model):
    """Raises OSError unless there is space for the weights: a full disk makes HDF5 crash."""
    needed = OVERHEAD + sum(OVERHEAD + 4 * math.prod(variable.shape) for variable in model.weights)
    try:
        with file.open("wb") as empty:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(empty.fileno(), 0, needed)
    except OSError as error:
        if error.errno in FULL:  # and not that the file system cannot reserve
            raise
    file.unlink()


def check_path(path: str | os.PathLike) -> None:
    """Raises ValueError or FileNotFoundError for a path that no weights can be written to."""
    path = Path(path)
    check_ending(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(path)!r} does not exist")


def _write_keras(model, base, path):
    model.save_weights(path)
    own = set(base.layers)
    places = {place: layer.name for layer, place in keras_places(model) if layer in own}
    with h5py.File(path, "a") as file:
        # Of a fixed length, which readers need not follow
        file.attrs[METADATA] = np.bytes_(_metadata(model, base, places).encode())


def _write_safetensors(model, base, path):
    library = require("safetensors.numpy", "weights")
    variables = name_variables(model, dict.fromkeys(base.layers))
    arrays: dict[str, Any] = {name: _as_floats(each) for name, each in variables.items()}
    library.save_file(to_own(arrays), path, metadata={METADATA: _metadata(model, base, {})})


def _as_floats(variable):
    """An array; whole numbers, such as the count of a `Normalization`, as float32."""
    array = np.asarray(keras.ops.convert_to_numpy(variable))
    return array.astype("float32") if array.dtype.kind in "iu" else array


def _metadata(model, base, places):
    """The text about the network in a model; with its layers' places if others have weights too."""
    found = about(model) | {
        "spec": describe(base.origin.spec),
        "preprocessing": describe(base_preprocessing(model, base)),
    }
    own = {id(weight) for layer in base.layers for weight in layer.weights}
    has_others = any(id(weight) not in own for weight in model.weights)
    return json.dumps(found | ({"layers": places} if has_others else {}))


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Loads a `.weights.h5` or `.safetensors` file of `save_weights` into a model that is built as
    the one was that it was saved from: a network of this package, or one with layers of yours.

    A model keeps the weights that it has if the file cannot be loaded.

    Raises:
        ValueError: for another kind of file, one that is damaged or of another network, and a model
            without a network of this package.
        OSError: if it cannot be read.
    """
    path = Path(path)
    check_ending(path)
    base = require_base(model, "Use `model.load_weights` for it")
    spec, preprocessing = base.origin.spec, base.origin.preprocessing
    before = model.get_weights()
    try:
        with open_weights(path, spec, preprocessing) as stored:
            if stored.spec != spec:
                raise ValueError(
                    f"The weights of {stored.label} are of another form of the network. "
                    f"Received: {model.name!r} with {spec}"
                )
            if stored.family == "own":
                stored.load_whole(model, base)
            elif all(layer in base.layers for layer in model.layers if layer.weights):
                stored.load_into(model)
            else:
                _load_keras(model, path, stored, base)
    except BaseException:
        set_weights(model, before)  # some may have the file's already
        raise
    finalize_normalizations(model)


def _load_keras(model, path, stored, base):
    """Keras knows where layers of users have their weights; it takes any values."""
    for name, entry in stored.named(base.models[-1]).items():
        array = entry.read()
        if not (name.startswith("layers/") and array.dtype.kind in "iu"):  # of a `Normalization`
            check_values(name, array)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # that layers keep what they had
            model.load_weights(path)
    except (ValueError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The weights of {stored.label} do not fit {model.name!r}: {reason}"
        ) from error
