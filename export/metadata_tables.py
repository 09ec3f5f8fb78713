"""Tables of a TFLite file's metadata: read and written by their names, with flatbuffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_senet.extras import require

from .tflite_file import check_identifier, write_vector

IDENTIFIER = b"M001"
LABELS = "labels.txt"
COLOR_SPACES = {3: 1, 1: 2}  # channels -> ColorSpaceType: RGB, GRAYSCALE
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2  # ContentProperties
NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions
# The fields of a table in the order of their slots, "-" where one is not used here; a union has
# two. From MediaPipe's metadata_schema.fbs 1.5.0, the successor of TFLite Support's: it is
# generated in MediaPipe's package only.
SCHEMA = """
ModelMetadata         name - - subgraph_metadata - - - min_parser_version
SubGraphMetadata      - - input_tensor_metadata output_tensor_metadata
TensorMetadata        name description - content process_units stats associated_files
Content               content_properties_type content_properties
FeatureProperties
ImageProperties       color_space
BoundingBoxProperties - type coordinate_type
ProcessUnit           options_type options
NormalizationOptions  mean std
Stats                 max min
AssociatedFile        name description type
"""
FIELDS = {kind: fields for kind, *fields in map(str.split, SCHEMA.strip().splitlines())}


def read_root(packed: bytes) -> Any:
    """The table ModelMetadata, a `flatbuffers.table.Table` as all that are read here."""
    check_identifier(packed, IDENTIFIER)
    table = require("flatbuffers.table", "export").Table(packed, 0)
    return _at(table, table.Indirect(0))


def _at(table, place):
    return type(table)(table.Bytes, place)


def read_byte(table: Any, kind: str, field: str) -> int:
    """An enum, 0 where it is not there."""
    offset = _offset(table, kind, field)
    return table.Bytes[table.Pos + offset] if offset else 0


def _offset(table, kind, field):
    return table.Offset(4 + 2 * FIELDS[kind].index(field))


def read_text(table: Any, kind: str, field: str) -> str:
    """A string, "" where it is not there."""
    offset = _offset(table, kind, field)
    return table.String(table.Pos + offset).decode() if offset else ""


def read_tables(table: Any, kind: str, field: str) -> list[Any]:
    """A vector of tables, empty where it is not there."""
    offset = _offset(table, kind, field)
    count = table.VectorLen(offset) if offset else 0
    return [_at(table, table.Indirect(table.Vector(offset) + 4 * i)) for i in range(count)]


def pack_table(kind: str, **fields: Any) -> dict[int, Any]:
    """A table to write: values by slot."""
    return {
        FIELDS[kind].index(field): value for field, value in fields.items() if value is not None
    }


def tensor(
    name: str, description: str, properties: tuple[int, dict] | None = None, **fields: Any
) -> dict[int, Any]:
    """The table TensorMetadata; of (the kind of properties, their table), those of a feature
    without.
    """
    kind, table = properties or (FEATURE_PROPERTIES, pack_table("FeatureProperties"))
    content = pack_table("Content", content_properties_type=kind, content_properties=table)
    return pack_table(
        "TensorMetadata", name=name, description=description, content=content, **fields
    )


def image_properties(channels: int) -> tuple[int, dict]:
    """The properties of a tensor of images."""
    return IMAGE_PROPERTIES, pack_table("ImageProperties", color_space=COLOR_SPACES.get(channels))


def normalization(mean: Sequence[float], std: Sequence[float]) -> dict[int, Any]:
    """The table ProcessUnit of (x - mean) / std."""
    options = pack_table("NormalizationOptions", mean=list(mean), std=list(std))
    return pack_table("ProcessUnit", options_type=NORMALIZATION_OPTIONS, options=options)


def labels_file(kind: int) -> dict[int, Any]:
    """The table AssociatedFile of the names of classes; `kind` is its AssociatedFileType."""
    return pack_table("AssociatedFile", name=LABELS, description="The classes' names", type=kind)


def graph(inputs: list[dict], outputs: list[dict]) -> dict[int, Any]:
    """The table SubGraphMetadata."""
    return pack_table(
        "SubGraphMetadata", input_tensor_metadata=inputs, output_tensor_metadata=outputs
    )


def build(metadata: dict[int, Any]) -> bytes:
    """The bytes of a table ModelMetadata, of texts, bytes, lists of floats, tables and lists."""
    builder = require("flatbuffers", "export").Builder()
    builder.Finish(_write(builder, metadata), IDENTIFIER)
    return bytes(builder.Output())


def _write(builder, value):
    """The offset of a text, list or table, whose contents come first: it is built backwards."""
    match value:
        case str():
            return builder.CreateString(value)
        case dict():
            return _write_table(builder, value)
        case [float(), *_]:
            return builder.CreateNumpyVector(np.array(value, "float32"))
    return write_vector(builder, [_write(builder, each) for each in value])


def _write_table(builder, table):
    values = {
        slot: value if isinstance(value, int) else _write(builder, value)
        for slot, value in table.items()
    }
    builder.StartObject(max(values, default=-1) + 1)
    for slot, value in values.items():
        write = (
            builder.PrependInt8Slot
            if isinstance(table[slot], int)
            else builder.PrependUOffsetTRelativeSlot
        )
        write(slot, value, 0)
    return builder.EndObject()
