"""`.weights.h5` files in Keras' own format, with the architecture and the preprocessing as metadata."""

import dataclasses
import json
import os
import tempfile
from pathlib import Path

import h5py

from keras_senet.preprocessing import Preprocessing

METADATA = "keras_senet"


def describe(value):
    """A spec or a preprocessing as plain data that JSON holds; equal values give equal data."""
    return json.loads(json.dumps({"class": type(value).__name__, **dataclasses.asdict(value)}))


def save_weights(model, path):
    """Writes the weights of a network, with its `spec` and `preprocessing`, to a `.weights.h5` file.

    Keras reads such a file too. It appears whole or not at all: an interrupted run leaves an earlier file as it was.

    Raises:
        ValueError: for another file name, or a model that no constructor of this package made.
    """
    path = Path(path)
    if not path.name.endswith(".weights.h5"):
        raise ValueError(f"`path` must end in `.weights.h5`. Received: path={str(path)!r}")
    if not hasattr(model, "spec"):
        raise ValueError(
            f"Only networks of keras_senet carry their architecture; {model.name!r} does not. "
            "Use `model.save_weights` for it."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(path)!r} does not exist")
    metadata = {"spec": describe(model.spec), "preprocessing": describe(model.preprocessing)}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        written = Path(folder) / path.name
        model.save_weights(written)
        with h5py.File(written, "a") as file:
            file.attrs[METADATA] = json.dumps(metadata)
        os.replace(written, path)


def load_weights(model, path, *, include_top=True):
    """Loads a `.weights.h5` file of this network, or of a network of equal layers where the file names none.

    The model takes over the preprocessing that the file names.

    Raises:
        ValueError: if the file is damaged, was saved from another architecture, or has other weights than the model.
    """
    try:
        with h5py.File(path, "r") as file:
            metadata = json.loads(file.attrs.get(METADATA, "{}"))
            preprocessing = _preprocessing(metadata)
            stored = _shapes(file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The weights file is damaged or not HDF5: {str(path)!r} ({error})") from error
    _check_spec(model.spec, metadata.get("spec"), path)
    _check_count(model, stored, path, include_top)
    if include_top:
        _check_classes(model, stored, path)
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"The weights of {str(path)!r} do not fit {model.name!r}: {error}") from error
    model.preprocessing = preprocessing or model.preprocessing


def _preprocessing(metadata):
    """The preprocessing that the weights were trained with, or None where the file does not say."""
    if not isinstance(metadata, dict):
        raise TypeError(f"its metadata is {metadata!r}")
    if "preprocessing" not in metadata:
        return None
    fields = {name: value for name, value in metadata["preprocessing"].items() if name != "class"}
    return Preprocessing(**fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])})


def _shapes(file):
    """The path and shape of each variable that belongs to a layer."""
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset) and name.startswith("layers/") and "seed_generator" not in name:
            found[name] = item.shape

    file.visititems(note)
    return found


def _check_spec(spec, stored, path):
    own = describe(spec)
    if stored is None or stored == own:
        return
    if not isinstance(stored, dict):
        raise ValueError(f"The metadata of {str(path)!r} is damaged: its architecture is {stored!r}")
    differences = [
        f"{field}: {stored.get(field)} in the file, {own.get(field)} here"
        for field in sorted(own.keys() | stored.keys())
        if own.get(field) != stored.get(field)
    ]
    raise ValueError(f"The weights of {str(path)!r} are of another architecture ({'; '.join(differences)})")


def _check_count(model, stored, path, include_top):
    if not include_top:
        stored = {name: shape for name, shape in stored.items() if not name.startswith("layers/dense")}
    if len(stored) != len(model.weights):
        raise ValueError(
            f"The weights of {str(path)!r} do not fit {model.name!r}: "
            f"the file has {len(stored)} variables, the network {len(model.weights)}"
        )


def _check_classes(model, stored, path):
    """The last dense layer of the file, which Keras numbers dense, dense_1, ..., must have the model's classes."""
    heads = [name for name, shape in stored.items() if name.startswith("layers/dense") and len(shape) == 2]
    if not heads:
        return
    classes = stored[max(heads, key=lambda name: (len(name), name))][1]
    if classes != model.output_shape[-1]:
        raise ValueError(
            f"The weights of {str(path)!r} do not fit {model.name!r}: the file has {classes} classes, "
            f"`classes` is {model.output_shape[-1]}. Pass `include_top=False` for the rest of the network"
        )
