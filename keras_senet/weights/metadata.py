"""What this package writes into its own files besides the weights: the architecture and the
preprocessing.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_senet.preprocessing import Preprocessing

METADATA = "keras_senet"
ENDINGS = (".weights.h5", ".safetensors")


def check_ending(path: Path) -> None:
    """Raises ValueError for a path that is not of a file of this package."""
    if not path.name.endswith(ENDINGS):
        raise ValueError(
            f"`path` must end in one of {', '.join(ENDINGS)}. Received: path={str(path)!r}"
        )


def describe(value: Any) -> dict[str, Any]:
    """A spec or a preprocessing as plain data that JSON holds; equal values give equal data."""
    return json.loads(json.dumps(value, default=_fields))


def _fields(value):
    names = [field.name for field in dataclasses.fields(value)]
    return {"class": type(value).__name__} | {name: getattr(value, name) for name in names}


def encode(spec: Any, preprocessing: Preprocessing, layers: dict[str, str] | None = None) -> str:
    """The metadata of a network, as text.

    `layers` has its layers' names by their places in the file, if that has weights of others too.
    """
    found = {"spec": describe(spec), "preprocessing": describe(preprocessing)}
    return json.dumps(found if layers is None else found | {"layers": layers})


def layers_of(metadata: Any) -> dict[str, str] | None:
    """The names of a network's layers by their places in a file that has weights of others too;
    None of a file without others.

    Raises:
        ValueError: if the metadata is damaged.
    """
    layers = metadata.get("layers") if isinstance(metadata, dict) else None
    is_named = isinstance(layers, dict) and all(isinstance(n, str) for n in layers.values())
    if layers is not None and not is_named:
        raise ValueError(f"its metadata is damaged: its layers are {str(layers)[:80]!r}")
    return layers


def preprocessing_of(metadata: Any) -> Preprocessing | None:
    """The preprocessing that the weights were trained with, or None where the file does not say.

    Raises:
        ValueError: if the metadata is damaged.
    """
    if metadata is None:
        return None
    try:
        stored = metadata.get("preprocessing")
        if stored is None:
            return None
        fields: dict[str, Any] = {name: value for name, value in stored.items() if name != "class"}
        fields |= {name: tuple(fields[name]) for name in ("mean", "std")}
        return Preprocessing(**fields)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"its metadata is damaged: {error}") from error


def choose_spec(metadata: Any, spec: Any) -> Any:
    """The network that a file of this package was saved from: `spec`, or another published form of
    it.

    Raises:
        ValueError: if the file is of another architecture, or its metadata is damaged.
    """
    stored = metadata.get("spec") if isinstance(metadata, dict) else metadata
    if stored is None:
        return spec
    if not isinstance(stored, dict):
        raise ValueError(f"its metadata is damaged: its architecture is {str(stored)[:80]!r}")
    stored = spec.upgrade(stored)
    forms = tuple(spec.forms.values())
    for candidate in (spec, *(forms if spec in forms else ())):
        if not any(differences(stored, candidate)):
            return candidate
    listed = (
        f"{n}: {theirs} in the file, {own} here" for n, theirs, own in differences(stored, spec)
    )
    raise ValueError(f"it is of another architecture ({'; '.join(listed)})")


def differences(stored: dict[str, Any], spec: Any) -> Iterator[tuple[str, Any, Any]]:
    """The fields in which a spec differs from a stored one, such as "unit.stride_on", with the
    stored value and the spec's. Fields that the file is too old for have their defaults.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    defaults = {name: value for name, value in defaults.items() if value is not dataclasses.MISSING}
    for found in _compare(_complete(stored, defaults), describe(spec)):
        if found[0] not in spec.IGNORED_FIELDS:
            yield found


def _complete(stored, defaults):
    """Stored fields, and those that the file is too old for with their defaults."""
    completed = {name: describe(value) for name, value in defaults.items()} | stored
    for name, value in stored.items():
        default = defaults.get(name)
        kind = type(default).__name__
        is_nested = isinstance(value, dict) and dataclasses.is_dataclass(default)
        if is_nested and value.get("class", kind) == kind:
            completed[name] = {"class": kind} | _complete(value, vars(default))
    return completed


def _compare(stored, own, prefix=""):
    for name in sorted(own.keys() | stored.keys()):
        theirs, ours = stored.get(name), own.get(name)
        both = isinstance(theirs, dict) and isinstance(ours, dict)
        if both and theirs.get("class") == ours.get("class"):
            yield from _compare(theirs, ours, f"{prefix}{name}.")
        elif theirs != ours:
            yield f"{prefix}{name}", theirs, ours
