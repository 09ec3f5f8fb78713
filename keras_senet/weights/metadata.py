"""What this package writes into its own files besides the weights: the architecture, the
preprocessing and the names of the classes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from keras_senet.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

METADATA = "keras_senet"
ENDINGS = (".weights.h5", ".safetensors")


def check_ending(path: Path, endings: tuple[str, ...] = ENDINGS, name: str = "path") -> None:
    """Raises ValueError for a path, the argument `name`, without one of these endings."""
    if not path.name.endswith(endings):
        raise ValueError(
            f"`{name}` must end in one of {', '.join(endings)}. Received: {name}={str(path)!r}"
        )


def describe(value: Any) -> dict[str, Any]:
    """A spec or a preprocessing as plain data that JSON holds; equal values give equal data."""
    return json.loads(json.dumps(value, default=_fields))


def _fields(value):
    names = [field.name for field in dataclasses.fields(value)]
    return {"class": type(value).__name__} | {name: getattr(value, name) for name in names}


def restore(stored: Any, kind: Any) -> Any:
    """The inverse of `describe`: a value of a kind, which is a type, as annotations write it.

    Of a class, those that derive from it are accepted, too; a field that is not stored has its
    default.

    Raises:
        ValueError: for data that describe no such value.
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    try:
        if isinstance(stored, dict):
            known = {each.__name__: each for each in subclasses(kinds)}
            cls = known[stored["class"]] if "class" in stored else next(iter(known.values()))
            hints = get_type_hints(cls)
            fields = {name: value for name, value in stored.items() if name != "class"}
            return cls(**{name: restore(value, hints[name]) for name, value in fields.items()})
        if isinstance(stored, list):
            return _restore_tuple(stored, next(each for each in kinds if _is_tuple(each)))
    except (KeyError, TypeError, StopIteration) as error:
        raise ValueError(f"no {getattr(kind, '__name__', kind)}: {str(stored)[:80]}") from error
    if not any(_is_plain(stored, each) for each in kinds):
        raise ValueError(f"no {getattr(kind, '__name__', kind)}: {str(stored)[:80]}")
    return stored


def _is_plain(value, kind):
    """Whether a number, a text or None is of a kind. JSON may write 1.0 as 1."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    kinds = (int, float) if kind is float else kind
    is_number = kind in (int, float) and isinstance(value, bool)
    return kind is Any or (isinstance(kind, type) and isinstance(value, kinds) and not is_number)


def subclasses(kinds: Iterable[Any]) -> Iterator[type]:
    """The classes among types, and those that derive from them."""
    for kind in kinds:
        if isinstance(kind, type):
            yield kind
            yield from subclasses(kind.__subclasses__())


def _is_tuple(kind):
    return get_origin(kind) is tuple or hasattr(kind, "_fields")


def _restore_tuple(stored, kind):
    if hasattr(kind, "_fields"):
        kinds = get_type_hints(kind).values()
        return kind(*(restore(value, each) for value, each in zip(stored, kinds, strict=False)))
    kinds = get_args(kind)
    kinds = kinds[:1] * len(stored) if kinds[-1] is ... else kinds
    return tuple(restore(value, each) for value, each in zip(stored, kinds, strict=True))


def about(model: keras.Model) -> dict[str, Any]:
    """The metadata of a network: what it has of the architecture, the preprocessing and the names
    of the classes, as plain data that JSON holds.
    """
    found: dict[str, Any] = {
        name: describe(getattr(model, name))
        for name in ("spec", "preprocessing")
        if dataclasses.is_dataclass(getattr(model, name, None))
    }
    names = getattr(model, "class_names", None)
    return found if names is None else found | {"class_names": list(map(str, names))}


def class_names_of(metadata: Any) -> tuple[str, ...] | None:
    """The names of the classes that the weights were trained for, or None where the file does not
    say.

    Raises:
        ValueError: if the metadata is damaged.
    """
    names = metadata.get("class_names") if isinstance(metadata, dict) else None
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its metadata is damaged: the names of its classes: {str(names)[:80]}")
    return tuple(names)


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


def stored_preprocessing(metadata: Any) -> Preprocessing | None:
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
