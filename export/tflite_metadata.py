"""Metadata of a TFLite file, as LiteRT's and MediaPipe's tools read it: name, preparation of
images, classes.

A file's metadata are a flatbuffer of their own in one of the model's buffers, named
TFLITE_METADATA, and files that it names in a zip archive behind the model:
https://ai.google.dev/edge/litert/models/metadata.
"""

import contextlib
import io
import json
import re
import struct
import zipfile
from typing import NamedTuple

from keras_senet.extras import require

ENTRY = "TFLITE_METADATA"
LABELS = "labels.txt"
ALIGNMENT = 16  # of each buffer, by the `force_align` of schema.fbs
IDENTIFIERS = {"Model": b"TFL3", "ModelMetadata": b"M001"}

# The fields of a table in the order of their slots, "-" where one is not used here; a union has
# two. The first seven are of LiteRT's schema.fbs, the others of MediaPipe's metadata_schema.fbs
# 1.5.0, the successor of TFLite Support's.
SCHEMA = """
Model                 version - subgraphs - buffers - metadata signature_defs - -
SubGraph              tensors inputs outputs
Tensor                shape type
Buffer                data offset
SignatureDef          - outputs
TensorMap             name tensor_index
Metadata              name buffer
ModelMetadata         name - - subgraph_metadata - - - min_parser_version
SubGraphMetadata      - - input_tensor_metadata output_tensor_metadata
TensorMetadata        name description - content process_units stats associated_files
Content               content_properties_type content_properties
FeatureProperties
ImageProperties       color_space
ProcessUnit           options_type options
NormalizationOptions  mean std
Stats                 max min
AssociatedFile        name description type
"""
FIELDS = {kind: fields for kind, *fields in map(str.split, SCHEMA.strip().splitlines())}
FLOAT32, UINT8 = 0, 3  # TensorType
COLOR_SPACES = {3: 1, 1: 2}  # channels -> ColorSpaceType: RGB, GRAYSCALE
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2  # ContentProperties
NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions
TENSOR_AXIS_LABELS = 2  # AssociatedFileType

# All fields that are written are of the schema's first version.
MIN_PARSER_VERSION = "1.0.0"

# The normalisation inside the graph is told in the description of `images`, because
# NormalizationOptions are what a tool does before it calls the graph, and CustomMetadata would need
# parsers of version 1.5.0. Any tool shows this text.
IN_GRAPH = "Pixels of 0..255. The graph itself computes (x - mean) / std: mean {}, std {}"
IN_GRAPH_PATTERN = re.compile(re.escape(IN_GRAPH).replace(r"\{\}", r"\[([^]]+)\]"))
AS_TRAINED = "Images normalised as in training"


class Metadata(NamedTuple):
    """What a file says of its model.

    name         of the model
    mean, std    of 0..255, a number a channel, where the graph itself computes (x - mean) / std;
                 else None
    class_names  in the order of the output; None if there are none
    """

    name: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    class_names: tuple[str, ...] | None


def with_metadata(content, *, name, preprocessing, class_names):
    """The bytes of a TFLite file with metadata, in place of those that it may have; the model's own
    are untouched.

    With `preprocessing` the metadata ask tools to feed pixels of 0..255 as they are:
    NormalizationOptions of mean 0 and std 1. They are the same for integer inputs: tools quantise
    what they have normalised, by the tensor's own scale, save that MediaPipe copies pixels into
    uint8 inputs. Without `preprocessing` there are no NormalizationOptions, and MediaPipe refuses a
    float32 input.

    Args:
        content: bytes of a TFLite file with one input (1, H, W, C) and one output.
        name: of the model.
        preprocessing: the `Preprocessing` that is inside the graph, or None.
        class_names: the names of the classes in the order of the output, or None.

    Raises:
        MissingExtraError: if flatbuffers is not installed.
        ValueError: for bytes that are not such a file or are damaged, a file over 2 GB, a name that
        is not one line
            of text, or another number of names or channels than the file has.
    """
    labels = None if class_names is None else _labels(class_names)
    with _parsing():
        model = _bare(content)
        images, results = _ends(model)
        metadata = _model_metadata(_line("name", name), images, results, preprocessing, class_names)
        front = _front(model, _flatbuffer("ModelMetadata", metadata))
    file = io.BytesIO()
    file.write(front)
    file.write(model)
    if labels is not None:
        _append(file, labels)
    return file.getvalue()


def read_metadata(content):
    """The `Metadata` of a TFLite file, from its bytes.

    Raises:
        ValueError: if they are not a TFLite file, have no metadata, or are damaged.
    """
    with _parsing():
        packed = _metadata_bytes(_root(content, "Model"))
        if packed is None:
            raise ValueError(
                f"`content` must have metadata. Received: a TFLite file without {ENTRY}"
            )
        metadata = _root(packed, "ModelMetadata")
        graph = metadata.tables("subgraph_metadata", "SubGraphMetadata")[0]
        images = graph.tables("input_tensor_metadata", "TensorMetadata")[0]
        predictions = graph.tables("output_tensor_metadata", "TensorMetadata")[0]
        mean, std = _normalization(images.text("description"))
        return Metadata(metadata.text("name"), mean, std, _class_names(content, predictions))


def _normalization(description):
    """(mean, std) inside the graph, from the description of `images`; (None, None) if it tells
    none.
    """
    found = IN_GRAPH_PATTERN.fullmatch(description)
    return (
        [tuple(map(float, json.loads(f"[{values}]"))) for values in found.groups()]
        if found
        else (None, None)
    )


def _class_names(content, predictions):
    """The lines of the file of labels that the output's metadata name; None if they name none."""
    files = predictions.tables("associated_files", "AssociatedFile")
    labels = next(
        (file.text("name") for file in files if file.scalar("type", "b") == TENSOR_AXIS_LABELS),
        None,
    )
    if labels is None:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return tuple(archive.read(labels).decode().splitlines())
    except Exception as error:  # zipfile raises ten kinds of errors, those of its decompressors too
        raise ValueError(
            f"`content` must end with the zip archive that its metadata name. Received: no whole {labels!r} ({error})"
        ) from error


# What is written


def _model_metadata(name, images, results, preprocessing, class_names):
    """The table ModelMetadata."""
    graph = _table(
        "SubGraphMetadata",
        input_tensor_metadata=[_images_metadata(images, preprocessing)],
        output_tensor_metadata=[
            _result_metadata(name, result, class_names) for name, result in results
        ],
    )
    return _table(
        "ModelMetadata", name=name, subgraph_metadata=[graph], min_parser_version=MIN_PARSER_VERSION
    )


def _images_metadata(images, preprocessing):
    """The table TensorMetadata of the input."""
    shape, dtype = images.ints("shape"), images.scalar("type", "b")
    if len(shape) != 4:
        raise ValueError(
            f"`content` must be a TFLite file whose input is (1, H, W, C). Received: one of {shape}"
        )
    properties = _table("ImageProperties", color_space=COLOR_SPACES.get(shape[3]))
    # Stats are of the tensor's own values, integers where it is quantised; MediaPipe's writer knows
    # the same two.
    is_of_pixels = dtype == UINT8 or (preprocessing is not None and dtype == FLOAT32)
    return _table(
        "TensorMetadata",
        name="images",
        description=AS_TRAINED if preprocessing is None else _in_graph(preprocessing, shape[3]),
        content=_table(
            "Content", content_properties_type=IMAGE_PROPERTIES, content_properties=properties
        ),
        process_units=None if preprocessing is None else [_pixels_as_they_are()],
        stats=_table("Stats", max=[255.0], min=[0.0]) if is_of_pixels else None,
    )


def _in_graph(preprocessing, channels):
    """The description of the normalisation that `_normalization` reads; `repr` keeps each number
    exact.
    """
    mean, std = (
        [float(value) for value in values] for values in (preprocessing.mean, preprocessing.std)
    )
    if len(mean) != channels:
        raise ValueError(
            f"`preprocessing` must be of {channels} channels, as the file's input is. Received: {preprocessing!r}"
        )
    return IN_GRAPH.format(mean, std)


def _pixels_as_they_are():
    """The table ProcessUnit of a normalisation by mean 0 and std 1, of any number of channels."""
    options = _table("NormalizationOptions", mean=[0.0], std=[1.0])
    return _table("ProcessUnit", options_type=NORMALIZATION_OPTIONS, options=options)


def _result_metadata(name, result, class_names):
    """The table TensorMetadata of an output."""
    shape = result.ints("shape")
    if class_names is not None and (len(shape) != 2 or len(class_names) != shape[1]):
        raise ValueError(
            f"`class_names` must be a name for each output of the file, whose shape is {shape[1:]}. "
            f"Received: {len(class_names)} names"
        )
    labels = _table(
        "AssociatedFile", name=LABELS, description="The classes' names", type=TENSOR_AXIS_LABELS
    )
    properties = _table("FeatureProperties")
    return _table(
        "TensorMetadata",
        name=name,
        description="A number for each class" if len(shape) == 2 else "A feature map",
        content=_table(
            "Content", content_properties_type=FEATURE_PROPERTIES, content_properties=properties
        ),
        associated_files=None if class_names is None else [labels],
    )


def _labels(class_names):
    """The content of the file of labels."""
    return "".join(_line("class_names", str(name)) + "\n" for name in class_names)


def _append(file, labels):
    """Appends the zip archive: uncompressed, MediaPipe reads no other, and with offsets from the
    file's beginning.
    """
    entry = zipfile.ZipInfo(LABELS)  # of 1980: the same model gives the same bytes
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(
        file, "w"
    ) as archive:  # "w" begins where the file is; "a" would search the weights for a zip
        archive.writestr(entry, labels)


def _line(argument, text):
    """The text. Raises ValueError unless it is one line that UTF-8 can hold, also for tools that
    split at U+2028.
    """
    is_line = isinstance(text, str) and text.splitlines() == [text]
    if not is_line or text.encode("utf-8", "ignore").decode() != text:
        raise ValueError(f"`{argument}` must be text of one line, not empty. Received: {text!r}")
    return text


# The model in its file


def _bare(content):
    """The file without zip archive and without what `with_metadata` put in front, as a view.

    Raises:
        ValueError: if its metadata or its zip archive are damaged.
    """
    model = memoryview(content)
    root = _root(model, "Model")
    index = _entry(root)
    if index is None:
        return model
    if read_metadata(content).class_names is not None:
        model = model[: _zip_place(content)]
    data, length = root.tables("buffers", "Buffer")[index].vector("data")
    # The metadata are the first that `_front` writes, from the back: behind them the former file
    # begins.
    place = -(-(data + length) // ALIGNMENT) * ALIGNMENT
    return (
        model[place:] if _is_former(model[place:], root.vector("subgraphs")[0] - place) else model
    )


def _is_former(model, subgraphs):
    """Whether this is a TFLite file by itself, with the subgraphs at that place."""
    return (
        model[4:8] == IDENTIFIERS["Model"]
        and _root(model, "Model").vector("subgraphs")[0] == subgraphs
    )


def _zip_place(content):
    """Where the zip archive at the end begins."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return min(entry.header_offset for entry in archive.infolist())


def _ends(model):
    """The table Tensor of the model's input, and (name, table Tensor) of each output, in the file's
    order.
    """
    root = _root(model, "Model")
    graph = root.tables("subgraphs", "SubGraph")[0]
    inputs, outputs = graph.ints("inputs"), graph.ints("outputs")
    if len(inputs) != 1 or not outputs:
        raise ValueError(
            "`content` must be a TFLite file with one input, and outputs. "
            f"Received: one with {len(inputs)} and {len(outputs)}"
        )
    tensors = graph.tables("tensors", "Tensor")
    if len(outputs) == 1:
        return tensors[inputs[0]], [("predictions", tensors[outputs[0]])]
    names = {}
    for signature in root.tables("signature_defs", "SignatureDef"):
        maps = signature.tables("outputs", "TensorMap")
        names |= {each.scalar("tensor_index", "I"): each.text("name") for each in maps}
    return tensors[inputs[0]], [
        (names.get(index, f"output {index}"), tensors[index]) for index in outputs
    ]


def _entry(root):
    """The index of the buffer with the metadata, None if there is none."""
    entries = root.tables("metadata", "Metadata")
    return next(
        (entry.scalar("buffer", "I") for entry in entries if entry.text("name") == ENTRY), None
    )


def _metadata_bytes(root):
    """The metadata's own flatbuffer, None if there is none."""
    index = _entry(root)
    if index is None:
        return None
    place, length = root.tables("buffers", "Buffer")[index].vector("data")
    return bytes(root.data[place : place + length])


def _front(model, metadata):
    """What before `model` makes a TFLite file with `metadata`: a new root, whose other parts are
    those of the old one.

    Offsets in a flatbuffer are relative and point ahead, so that the model's bytes stay as they
    are. Packing the model again by LiteRT's `ModelT` took 8.7 s and four times the memory of a file
    of 462 MB; this took 2.4 s and its size.
    """
    root = _root(model, "Model")
    buffers = root.tables("buffers", "Buffer")
    if root.slots > len(FIELDS["Model"]) or any(
        buffer.scalar("offset", "Q") > 1 for buffer in buffers
    ):
        raise ValueError(
            "`content` must be a flatbuffer of at most 2 GB. Received: one with parts outside of it"
        )
    builder = require("flatbuffers", "export").Builder()
    builder.StartVector(1, len(metadata), ALIGNMENT)
    for byte in reversed(metadata):
        builder.PrependByte(byte)
    buffer = _written_offsets(builder, {0: builder.EndVector()})

    # The builder counts an offset from the end of what it writes, where the model begins.
    places = [-old.place for old in buffers]
    index = _entry(root)
    index = len(places) if index is None else index
    places[index : index + 1] = [buffer]
    entries = [
        -entry.place for entry in root.tables("metadata", "Metadata") if entry.text("name") != ENTRY
    ]
    entries.append(_written_entry(builder, index))
    parts = {slot: -root.target(slot) for slot in range(1, root.slots) if root.has(slot)}
    parts[FIELDS["Model"].index("buffers")] = _written_vector(builder, places)
    parts[FIELDS["Model"].index("metadata")] = _written_vector(builder, entries)
    builder.Finish(
        _written_offsets(builder, parts, version=root.scalar("version", "I")), IDENTIFIERS["Model"]
    )
    return bytes(builder.Output())


def _written_entry(builder, index):
    """The offset of the model's entry for the metadata, which are in the buffer `index`."""
    name = builder.CreateString(ENTRY)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependUint32Slot(1, index, 0)
    return builder.EndObject()


def _written_offsets(builder, offsets, version=0):
    """The offset of a table whose slots hold offsets, and the first a model's version."""
    builder.StartObject(max(offsets) + 1)
    builder.PrependUint32Slot(0, version, 0)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return builder.EndObject()


# Flatbuffers: https://flatbuffers.dev/internals


class Table:
    """A table in `data` at `place`; fields that it lacks are 0, "" or empty."""

    def __init__(self, data, place, kind):
        self.data, self.place, self.fields = data, place, FIELDS[kind]
        self.vtable = place - self._number("i", place)
        self.slots = (self._number("H", self.vtable) - 4) // 2

    def _number(self, code, place):
        return struct.unpack_from("<" + code, self.data, place)[0]

    def has(self, slot):
        """Whether the field is there."""
        return slot < self.slots and self._number("H", self.vtable + 4 + 2 * slot) > 0

    def _field(self, slot):
        return self.place + self._number("H", self.vtable + 4 + 2 * slot)

    def target(self, slot):
        """Where the field that is there, an offset, points to."""
        return self._field(slot) + self._number("I", self._field(slot))

    def scalar(self, field, code):
        """A number of `struct`'s type `code`."""
        slot = self.fields.index(field)
        return self._number(code, self._field(slot)) if self.has(slot) else 0

    def vector(self, field):
        """(place, length) of the elements."""
        slot = self.fields.index(field)
        return (
            (self.target(slot) + 4, self._number("I", self.target(slot)))
            if self.has(slot)
            else (0, 0)
        )

    def ints(self, field):
        """A vector of int32, as a tuple."""
        place, length = self.vector(field)
        return struct.unpack_from(f"<{length}i", self.data, place)

    def tables(self, field, kind):
        """A vector of tables."""
        place, length = self.vector(field)
        offsets = struct.unpack_from(f"<{length}I", self.data, place)
        return [Table(self.data, place + 4 * i + offset, kind) for i, offset in enumerate(offsets)]

    def text(self, field):
        """A string."""
        place, length = self.vector(field)
        return struct.unpack_from(f"{length}s", self.data, place)[0].decode()


def _root(data, kind):
    """The root of a flatbuffer."""
    if data[4:8] != IDENTIFIERS[kind]:
        raise ValueError(
            f"`content` must be the bytes of a TFLite file: a flatbuffer {kind} has {IDENTIFIERS[kind]} at 4. "
            f"Received: {len(data)} bytes with {bytes(data[4:8])}"
        )
    return Table(data, *struct.unpack_from("<I", data), kind)


@contextlib.contextmanager
def _parsing():
    """Turns what damaged bytes lead to into a ValueError."""
    try:
        yield
    except (struct.error, IndexError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"`content` must be a whole TFLite file. Received: a damaged one ({error})"
        ) from error


def _table(kind, **fields):
    """A table to write: values by slot."""
    return {
        FIELDS[kind].index(field): value for field, value in fields.items() if value is not None
    }


def _flatbuffer(kind, table):
    """The bytes of a root to write, of texts, integers of one byte, lists of floats, and tables
    alone or in lists.
    """
    builder = require("flatbuffers", "export").Builder()
    builder.Finish(_written(builder, table), IDENTIFIERS[kind])
    return bytes(builder.Output())


def _written(builder, value):
    """The offset of a text, list or table. What it consists of is written before: the builder goes
    from the back.
    """
    match value:
        case str():
            return builder.CreateString(value)
        case dict():
            return _written_table(builder, value)
        case [float(), *_]:
            builder.StartVector(4, len(value), 4)
            for number in reversed(value):
                builder.PrependFloat32(number)
            return builder.EndVector()
    return _written_vector(builder, [_written(builder, each) for each in value])


def _written_table(builder, table):
    """The offset of a table."""
    values = {
        slot: value if isinstance(value, int) else _written(builder, value)
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


def _written_vector(builder, offsets):
    """The offset of a vector of offsets."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
