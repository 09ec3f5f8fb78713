"""Metadata of a TFLite file, as LiteRT's and MediaPipe's tools read it: name, preparation of
images, classes.

A file's metadata are a flatbuffer of their own in one of the model's buffers, named
TFLITE_METADATA, and files that it names in a zip archive after the model:
https://ai.google.dev/edge/litert/models/metadata.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from keras_senet.fields import fits_utf8
from keras_senet.preprocessing import Preprocessing

from .metadata_tables import (
    LABELS,
    build,
    graph,
    image_properties,
    labels_file,
    normalization,
    pack_table,
    read_byte,
    read_root,
    read_tables,
    read_text,
    tensor,
)
from .tflite_file import (
    ENTRY,
    End,
    parsing,
    prepend_metadata,
    read_ends,
    read_packed,
    strip_metadata,
)

ABOUT = "keras_senet.json"  # what the file of a detector says of itself
FLOAT32, UINT8 = 0, 3  # TensorType
TENSOR_AXIS_LABELS = 2  # AssociatedFileType

# All fields that are written are of the schema's first version.
MIN_PARSER_VERSION = "1.0.0"

# The normalisation inside the graph is in the description of `images`, because
# NormalizationOptions are what a tool does before it calls the graph, and CustomMetadata would need
# parsers of version 1.5.0. Any tool shows this text.
IN_GRAPH = "Pixels of 0..255. The graph itself computes (x - mean) / std: mean {}, std {}"
# How images become these pixels, which the graph does not do.
CROPPED = ". Images are resized ({}) and cropped to {} of their centre; upright: {}"
CROPPED_PATTERN = re.compile(re.escape(CROPPED).replace(r"\{\}", "([^;]+?)"))
IN_GRAPH_PATTERN = re.compile(re.escape(IN_GRAPH).replace(r"\{\}", r"\[([^]]+)\]"))
SCORES, LOGITS = "A number for each class", "A number for each class, before a softmax"
AS_TRAINED = "Images normalised as in training"


class Metadata(NamedTuple):
    """What a file says of its model.

    name         of the model
    mean, std    of 0..255, a number per channel, where the graph itself computes (x - mean) / std;
                 else None
    class_names  in the order of the output; None if there are none
    logits       whether the output is said to be of logits
    """

    name: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    class_names: tuple[str, ...] | None
    logits: bool = False


def with_metadata(
    content: bytes,
    *,
    name: str,
    preprocessing: Any,
    class_names: Sequence[str] | None,
    logits: bool = False,
) -> bytes:
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
        logits: whether the output is of logits, which its description then says.

    Raises:
        MissingExtraError: if flatbuffers or LiteRT are not installed.
        ValueError: for bytes that are not such a file or are damaged, a file over 2 GB, a name that
            is not one line of text, or another number of names or channels than the file has.
    """
    labels = None if class_names is None else make_labels(class_names)
    with parsing():
        model = strip_metadata(content, _end_of_model(content))
        images, results = read_ends(model)
        text = LOGITS if logits else SCORES
        given = _images_metadata(images, preprocessing)
        made = [_result_metadata(result, class_names, text) for result in results]
        files = {} if labels is None else {LABELS: labels}
        return assemble(model, name, graph([given], made), files)


def assemble(content: Any, name: str, table: dict[int, Any], files: Mapping[str, str]) -> bytes:
    """The bytes of a TFLite file without metadata, with those of a model of this name and with a
    table SubGraphMetadata, and with files, texts by name, after it.
    """
    metadata = pack_table(
        "ModelMetadata",
        name=_line("name", name),
        subgraph_metadata=[table],
        min_parser_version=MIN_PARSER_VERSION,
    )
    file = io.BytesIO()
    file.write(prepend_metadata(content, build(metadata)))
    file.write(content)
    if files:
        _append(file, files)
    return file.getvalue()


def read_metadata(content: bytes) -> Metadata:
    """The `Metadata` of a TFLite file, from its bytes.

    Raises:
        MissingExtraError: if flatbuffers or LiteRT are not installed.
        ValueError: if they are not a TFLite file, have no metadata, or are damaged.
    """
    with parsing():
        root = _read_root(content)
        if root is None:
            raise ValueError(
                f"`content` must have metadata. Received: a TFLite file without {ENTRY}"
            )
        mean, std = _normalization(_description(root, "input_tensor_metadata"))
        name = read_text(root, "ModelMetadata", "name")
        logits = _description(root, "output_tensor_metadata") == LOGITS
        return Metadata(name, mean, std, _class_names(content, root), logits)


def read_about(content: bytes) -> dict[str, Any]:
    """What the file of a detector says of itself; nothing of another file.

    Raises:
        ValueError: if it is damaged.
    """
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        return {}
    try:
        with zipfile.ZipFile(file) as archive:
            return json.loads(archive.read(ABOUT)) if ABOUT in archive.namelist() else {}
    except Exception as error:  # zipfile raises ten kinds of errors
        raise ValueError(
            "`content` must end with a whole zip archive. Received: a damaged one"
        ) from error


def read_preprocessing(content: bytes) -> Preprocessing | None:
    """The preparation of images for a TFLite file, from its bytes; None if it does not say.

    In a file of an earlier version, which says how its graph normalises images and not how they
    are cropped, this is by default.

    Raises what `read_metadata` raises.
    """
    with parsing():
        images, _ = read_ends(content)
        root = _read_root(content)
        if root is None:
            return None
        description = _description(root, "input_tensor_metadata")
        mean, std = _normalization(description)
        if mean is None or std is None:
            return None
        found = Preprocessing(mean, std, images.shape[1:3])
        if cropped := CROPPED_PATTERN.search(description):
            interpolation, fraction, upright = cropped.groups()
            found = replace(
                found,
                interpolation=interpolation,
                crop_fraction=float(fraction),
                upright=upright == "True",
            )
        return found


# What is read


def _read_root(content):
    """The table ModelMetadata, None if there is none."""
    packed = read_packed(content)
    return None if packed is None else read_root(packed)


def _first_tensor(root, field):
    """The table of the graph's first input or output."""
    table = read_tables(root, "ModelMetadata", "subgraph_metadata")[0]
    return read_tables(table, "SubGraphMetadata", field)[0]


def _description(root, field):
    return read_text(_first_tensor(root, field), "TensorMetadata", "description")


def _labels_file(root):
    """The name of the file of labels of the first output, None if there is none."""
    result = _first_tensor(root, "output_tensor_metadata")
    names = (
        read_text(file, "AssociatedFile", "name")
        for file in read_tables(result, "TensorMetadata", "associated_files")
        if read_byte(file, "AssociatedFile", "type") == TENSOR_AXIS_LABELS
    )
    return next(names, None)


def _normalization(description):
    """(mean, std) inside the graph, by the description of `images`; (None, None) without them."""
    found = IN_GRAPH_PATTERN.match(description)
    if found is None:
        return None, None
    return [tuple(map(float, json.loads(f"[{values}]"))) for values in found.groups()]


def _class_names(content, root):
    """The lines of the file of labels that the metadata name; None if they name none."""
    labels = _labels_file(root)
    if labels is None:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = archive.getinfo(labels).file_size
            if size > len(content):
                raise ValueError(f"{size:,} bytes, which is more than the file has")
            return tuple(archive.read(labels).decode().splitlines())
    except Exception as error:  # zipfile raises ten kinds of errors, those of its decompressors too
        raise ValueError(
            "`content` must end with the zip archive that its metadata name. "
            f"Received: no whole {labels!r} ({error})"
        ) from error


def _end_of_model(content):
    """Where the zip archive after the model begins, or the file ends.

    Raises:
        ValueError: if the file's metadata or its zip archive are damaged.
    """
    root = _read_root(content)
    if root is None or _class_names(content, root) is None:
        return len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return min(entry.header_offset for entry in archive.infolist())


# What is written


def _images_metadata(images: End, preprocessing):
    """The table TensorMetadata of the input."""
    shape, dtype = images.shape, images.dtype
    if len(shape) != 4:
        raise ValueError(
            f"`content` must be a TFLite file whose input is (1, H, W, C). Received: one of {shape}"
        )
    # Stats are of the tensor's own values, integers where it is quantised; MediaPipe's writer knows
    # the same two.
    is_of_pixels = dtype == UINT8 or (preprocessing is not None and dtype == FLOAT32)
    # A normalisation by mean 0 and std 1 is for any number of channels.
    return tensor(
        "images",
        AS_TRAINED if preprocessing is None else _in_graph(preprocessing, shape[3]),
        image_properties(shape[3]),
        process_units=None if preprocessing is None else [normalization([0.0], [1.0])],
        stats=pack_table("Stats", max=[255.0], min=[0.0]) if is_of_pixels else None,
    )


def _in_graph(preprocessing, channels):
    """The description that `_normalization` reads; `repr` keeps each number exact."""
    mean, std = (
        [float(value) for value in values] for values in (preprocessing.mean, preprocessing.std)
    )
    if len(mean) != channels:
        raise ValueError(
            f"`preprocessing` must be of {channels} channels, as the file's input is. "
            f"Received: {preprocessing!r}"
        )
    how = (preprocessing.interpolation, preprocessing.crop_fraction, preprocessing.upright)
    return IN_GRAPH.format(mean, std) + CROPPED.format(*how)


def _result_metadata(result: End, class_names, text):
    """The table TensorMetadata of an output."""
    shape = result.shape
    if class_names is not None and (len(shape) != 2 or len(class_names) != shape[1]):
        raise ValueError(
            "`class_names` must be a name for each output of the file, whose shape is "
            f"{shape[1:]}. Received: {len(class_names)} names"
        )
    return tensor(
        result.name,
        text if len(shape) == 2 else "A feature map",
        associated_files=None if class_names is None else [labels_file(TENSOR_AXIS_LABELS)],
    )


def make_labels(class_names: Iterable[str]) -> str:
    """The content of the file of labels."""
    return "".join(_line("class_names", str(name)) + "\n" for name in class_names)


def _append(file, files):
    """Appends the zip archive, uncompressed for MediaPipe, offsets from the file's beginning."""
    # "w" begins at the file's position; "a" would search the weights for a zip.
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980: the same model gives the same bytes
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)


def _line(argument, text):
    """The text. Raises ValueError unless it is one line, also for tools that split at U+2028."""
    is_line = isinstance(text, str) and text.splitlines() == [text]
    if not is_line or not fits_utf8(text):
        raise ValueError(f"`{argument}` must be text of one line, not empty. Received: {text!r}")
    return text
