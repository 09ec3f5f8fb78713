"""Writing weights with the architecture that they belong to."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_senet.extras import require
from keras_senet.files import replacing
from keras_senet.weights.metadata import METADATA, encode
from keras_senet.weights.names import own_name, to_own

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OVERHEAD = 4096  # bytes that a file and each array in it take, at most
ENDINGS = (".weights.h5", ".safetensors")


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes the weights of a network, with its `spec` and `preprocessing`, to a `.weights.h5` or
    `.safetensors` file.

    Keras reads the former too. The file appears whole or not at all: after an interrupted run an
    earlier one is still there. Names in a `.safetensors` file are those of the layers, such as
    "stage3_block2_conv1.kernel", in Keras' layout.

    Raises:
        ValueError: for another file name, a model that no constructor of this package made, or
            variables of bfloat16 in a `.weights.h5` file.
        MissingExtraError: for `.safetensors` without the extra `weights`.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    check_path(path)
    if not hasattr(model, "spec"):
        raise ValueError(
            f"Only networks of keras_senet carry their architecture; {model.name!r} does not. "
            "Use `model.save_weights` for it."
        )
    if path.name.endswith(".weights.h5") and any(
        variable.dtype == "bfloat16" for variable in model.weights
    ):
        raise ValueError(
            f"`.weights.h5` cannot hold bfloat16: use `.safetensors`. Received: path={str(path)!r}"
        )
    write = _write_keras if path.name.endswith(".weights.h5") else _write_safetensors
    with replacing(path) as partial:
        _reserve(partial, model)
        write(model, partial)


def _reserve(file, model):
    """Raises OSError unless there is space for a model's weights: on a full disk HDF5 ends the
    process.
    """
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
    if not path.name.endswith(ENDINGS):
        raise ValueError(
            f"`path` must end in one of {', '.join(ENDINGS)}. Received: path={str(path)!r}"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(path)!r} does not exist")


def _write_keras(model, path):
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        # Of a fixed length, which readers need not follow
        file.attrs[METADATA] = np.bytes_(encode(model).encode())


def _write_safetensors(model, path):
    library = require("safetensors.numpy", "weights")
    arrays: dict[str, Any] = {
        own_name(variable): keras.ops.convert_to_numpy(variable) for variable in model.weights
    }
    library.save_file(to_own(arrays), path, metadata={METADATA: encode(model)})
