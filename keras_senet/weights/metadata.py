"""What this package writes into its own files besides the weights: the architecture and the
preprocessing.
"""

import dataclasses
import json

from keras_senet.preprocessing import Preprocessing

METADATA = "keras_senet"
# Fields of a spec that have no part in what the weights mean: a dilated network is the same at
# other places.
INDIFFERENT = ("output_stride",)


def describe(value):
    """A spec or a preprocessing as plain data that JSON holds; equal values give equal data."""
    return json.loads(json.dumps({"class": type(value).__name__, **dataclasses.asdict(value)}))


def encode(model):
    """The metadata of a network, as text."""
    return json.dumps(
        {"spec": describe(model.spec), "preprocessing": describe(model.preprocessing)}
    )


def preprocessing_of(metadata):
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
        fields = {name: value for name, value in stored.items() if name != "class"}
        return Preprocessing(
            **fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])}
        )
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"its metadata is damaged: {error}") from error


def choose_spec(metadata, spec):
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
    published = [spec.published_by(family) for family in spec.families]
    for candidate in (spec, *(published if spec in published else ())):
        if not _differences(stored, candidate):
            return candidate
    raise ValueError(f"it is of another architecture ({'; '.join(_differences(stored, spec))})")


def _differences(stored, spec):
    """The fields in which a spec differs from a stored one; those that the file is too old for have
    their defaults.
    """
    own = describe(spec)
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    defaults = {name: value for name, value in defaults.items() if value is not dataclasses.MISSING}
    defaults = json.loads(json.dumps(defaults, default=dataclasses.asdict))
    stored = defaults | stored
    return [
        f"{field}: {stored.get(field)} in the file, {own.get(field)} here"
        for field in sorted(own.keys() | stored.keys())
        if field not in INDIFFERENT and own.get(field) != stored.get(field)
    ]
