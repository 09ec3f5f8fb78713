"""A TFLite file as bytes: its ends, and metadata put before it, by LiteRT's generated schema."""

import contextlib
import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from keras_senet.extras import require

ENTRY = "TFLITE_METADATA"
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of each buffer, by the `force_align` of schema.fbs
SLOTS = 8  # fields of a Model that this module knows
VERSION, SUBGRAPHS, BUFFERS, METADATA = 0, 2, 4, 6  # slots of a Model


class End(NamedTuple):
    """An input or output of a file: its name, shape, and a number of the enum TensorType."""

    name: str
    shape: tuple[int, ...]
    dtype: int


def _schema() -> Any:
    return require("ai_edge_litert.schema_py_generated", "export")


@contextlib.contextmanager
def parsing() -> Iterator[None]:
    """Turns what damaged bytes lead to into a ValueError."""
    try:
        yield
    except (struct.error, IndexError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"`content` must be a whole TFLite file. Received: a damaged one ({error})"
        ) from error


def check_identifier(content: Any, identifier: bytes) -> None:
    """Raises ValueError for bytes that are not such a flatbuffer."""
    if content[4:8] != identifier:
        raise ValueError(
            f"`content` must be the bytes of a TFLite file, a flatbuffer with {identifier} at 4. "
            f"Received: {len(content)} bytes with {bytes(content[4:8])}"
        )


def _read_model(content):
    check_identifier(content, IDENTIFIER)
    return _schema().Model.GetRootAs(content)


def read_packed(content: Any) -> bytes | None:
    """The metadata's own flatbuffer, None if there is none."""
    model = _read_model(content)
    index = _find_entry(model)
    if index is None:
        return None
    place, length = _data_of(model, index)
    return bytes(content[place : place + length])


def _find_entry(model):
    """The index of the buffer with the metadata, None if there is none."""
    entries = (model.Metadata(i) for i in range(model.MetadataLength()))
    return next((entry.Buffer() for entry in entries if entry.Name() == ENTRY.encode()), None)


def _data_of(model, index):
    """(place, length) of the bytes of a buffer."""
    if index >= model.BuffersLength():
        raise IndexError(f"no buffer {index}")
    table = model.Buffers(index)._tab
    offset = table.Offset(4)
    return (table.Vector(offset), table.VectorLen(offset)) if offset else (0, 0)


def read_ends(content: Any) -> tuple[End, list[End]]:
    """The model's input, and its outputs in the file's order."""
    model = _read_model(content)
    graph = model.Subgraphs(0)
    inputs, outputs = graph.InputsLength(), graph.OutputsLength()
    if inputs != 1 or not outputs:
        raise ValueError(
            "`content` must be a TFLite file with one input, and outputs. "
            f"Received: one with {inputs} and {outputs}"
        )
    indices = [graph.Outputs(i) for i in range(outputs)]
    names = {indices[0]: "predictions"} if outputs == 1 else _names_of_outputs(model)
    images = _read_end(graph, graph.Inputs(0), "images")
    return images, [_read_end(graph, i, names.get(i, f"output {i}")) for i in indices]


def _names_of_outputs(model):
    signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
    maps = [each.Outputs(i) for each in signatures for i in range(each.OutputsLength())]
    return {each.TensorIndex(): each.Name().decode() for each in maps}


def _read_end(graph, index, name):
    if not 0 <= index < graph.TensorsLength():
        raise IndexError(f"no tensor {index}")
    tensor = graph.Tensors(index)
    return End(name, tuple(tensor.Shape(i) for i in range(tensor.ShapeLength())), tensor.Type())


def strip_metadata(content: Any, end: int) -> memoryview:
    """The file up to `end`, without what `prepend_metadata` put before it, as a view."""
    view = memoryview(content)
    model = _read_model(view)
    index = _find_entry(model)
    if index is None:
        return view
    place, length = _data_of(model, index)
    # The metadata are the first that `prepend_metadata` writes, from the back: after them the
    # former file begins.
    start = -(-(place + length) // ALIGNMENT) * ALIGNMENT
    table = model._tab
    subgraphs = table.Vector(table.Offset(4 + 2 * SUBGRAPHS))
    return view[start:end] if _is_former(view[start:end], subgraphs - start) else view[:end]


def _is_former(view, subgraphs):
    """Whether this is a TFLite file by itself, with the subgraphs at that place."""
    if view[4:8] != IDENTIFIER:
        return False
    table = _read_model(view)._tab
    return table.Vector(table.Offset(4 + 2 * SUBGRAPHS)) == subgraphs


def prepend_metadata(content: Any, packed: bytes) -> bytes:
    """What before `content` makes a TFLite file with metadata: a new root, whose other parts are
    those of the old one.

    Offsets in a flatbuffer are relative and point ahead, so that the model's bytes stay as they
    are. Packing the model again by LiteRT's `ModelT` took 8.7 s and four times the memory of a file
    of 462 MB; this took 2.4 s and its size.
    """
    model = _read_model(content)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    if _count_slots(model._tab) > SLOTS or any(buffer.Offset() > 1 for buffer in buffers):
        raise ValueError(
            "`content` must be a flatbuffer of at most 2 GB. Received: one with parts outside of it"
        )
    builder = require("flatbuffers", "export").Builder()
    buffer = _write_buffer(builder, packed)

    # The builder counts an offset from the end of what it writes, where the model begins.
    places = [-old._tab.Pos for old in buffers]
    index = _find_entry(model)
    index = len(places) if index is None else index
    places[index : index + 1] = [buffer]
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    entries = [-entry._tab.Pos for entry in entries if entry.Name() != ENTRY.encode()]
    entries.append(_write_entry(builder, index))
    table = model._tab
    offsets = {slot: table.Offset(4 + 2 * slot) for slot in range(1, _count_slots(table))}
    parts = {slot: -table.Indirect(table.Pos + at) for slot, at in offsets.items() if at}
    parts[BUFFERS] = write_vector(builder, places)
    parts[METADATA] = write_vector(builder, entries)
    builder.StartObject(SLOTS)
    builder.PrependUint32Slot(VERSION, model.Version(), 0)
    for slot, offset in parts.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject(), IDENTIFIER)
    return bytes(builder.Output())


def _count_slots(table):
    number_types = require("flatbuffers.number_types", "export")
    vtable = table.Pos - table.Get(number_types.SOffsetTFlags, table.Pos)
    return (table.Get(number_types.VOffsetTFlags, vtable) - 4) // 2


def _write_buffer(builder, data):
    schema = _schema()
    builder.Prep(ALIGNMENT, len(data))
    place = builder.CreateByteVector(data)
    schema.BufferStart(builder)
    schema.BufferAddData(builder, place)
    return schema.BufferEnd(builder)


def _write_entry(builder, index):
    schema, name = _schema(), builder.CreateString(ENTRY)
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, name)
    schema.MetadataAddBuffer(builder, index)
    return schema.MetadataEnd(builder)


def write_vector(builder: Any, offsets: list[int]) -> int:
    """The offset of a vector of offsets."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
