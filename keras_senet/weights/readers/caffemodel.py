"""`.caffemodel` files, by protobuf: the messages of caffe.proto with the few fields that hold
weights.

An array is a packed field of floats, which on the wire are the bytes of the array: declared as
bytes, they are taken as they are. Messages inside others are declared as bytes too and read one by
one, so that many small ones take no memory; the outermost one, the network, is gone through here,
because protobuf would hold it in memory twice.
"""

import contextlib
import functools
import io
import math
from typing import Any

import numpy as np

from keras_senet.extras import require
from keras_senet.protobuf import LONGEST, read_varint
from keras_senet.weights.readers import Contents, DamagedFileError, Entry, UnsupportedFileError

# Numbers of the fields in caffe.proto: of the network's layers, in its format since 2014 and
# before; of theirs.
LAYER, OLD_LAYERS = 100, 2
MESSAGES = {
    #        field      number type     repeated
    "Layer": (("name", 1, "bytes", False), ("blobs", 7, "bytes", True)),
    "Blob": (("shape", 7, "bytes", False), ("data", 5, "bytes", True)),
    "Shape": (("dim", 1, "int64", True),),
}
FIXED = {1: 8, 5: 4}  # bytes of the kinds of fields that have a fixed length
MAX_FIELDS = 10_000  # SENet-154 has a tenth
MAX_SHAPE = 64  # bytes
MAX_BLOBS = 3  # of a layer: batch normalisation has mean, variance and their factor


@functools.cache
def _messages():
    descriptor_pb2 = require("google.protobuf.descriptor_pb2", "weights")
    from google.protobuf import descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="caffe_weights.proto", package="caffe_weights", syntax="proto2"
    )
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            described.field.add(
                name=name, number=number, type=getattr(field, f"TYPE_{kind.upper()}"), label=label
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe_weights.{name}"))
        for name in MESSAGES
    }


def _parse(message: str, content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _messages()[message].FromString(content)
    except DecodeError as error:
        raise DamagedFileError(f"a message is broken: {error}") from error


@contextlib.contextmanager
def open_caffemodel(path):
    """The blobs of layers by name and number: "conv1:0" is the first of the layer conv1."""
    with path.open("rb") as file:
        entries = {}
        for place in _layers(file):
            layer = _layer(file, place)
            name = layer.name.decode("utf-8", "replace")
            if len(layer.blobs) > MAX_BLOBS:
                raise DamagedFileError(f"the layer {name[:80]!r} has {len(layer.blobs)} blobs")
            for i, blob in enumerate(layer.blobs):
                if f"{name}:{i}" in entries:
                    raise DamagedFileError(f"two layers are called {name[:80]!r}")
                shape = _array(blob, name).shape
                entries[f"{name}:{i}"] = Entry(
                    shape, functools.partial(_read, file, place, i, name)
                )
        yield Contents(entries)


def _read(file, place, i, name):
    return _array(_layer(file, place).blobs[i], name)


def _layer(file, place):
    start, length = place
    file.seek(start)
    return _parse("Layer", file.read(length))


def _layers(file):
    """Where the layers' messages are, (start, length): the whole is never in memory."""
    places = []
    for count, (number, start, length) in enumerate(_fields(file)):
        if number == OLD_LAYERS:
            raise UnsupportedFileError("its layers are in the format that Caffe wrote before 2014")
        if number == LAYER and length is not None:
            places.append((start, length))
        if count >= MAX_FIELDS:
            raise DamagedFileError(f"it has more than {MAX_FIELDS} layers and other fields")
    if not places:
        raise DamagedFileError("it has no layers")
    return places


def _fields(file):
    """The outermost message's fields: number, content's start, and its length or None."""
    end = file.seek(0, io.SEEK_END)
    position = file.seek(0)
    while position < end:
        number, kind = divmod(_read_varint(file), 8)
        if kind == 0:
            _read_varint(file)
            start, length = file.tell(), None
        elif kind in FIXED:
            start, length = file.tell() + FIXED[kind], None
        elif kind == 2:
            length = _read_varint(file)
            start = file.tell()
        else:
            raise DamagedFileError(f"a field is of the kind {kind}")
        position = start + (length or 0)
        if position > end:
            raise DamagedFileError("a field reaches beyond the end of the file")
        yield number, start, length
        file.seek(position)


def _read_varint(file):
    start = file.tell()
    try:
        value, end = read_varint(file.read(LONGEST))
    except ValueError as error:
        raise DamagedFileError(str(error)) from error
    file.seek(start + end)
    return value


def _array(content, name):
    """A blob's array; it has as many floats as its shape says."""
    blob = _parse("Blob", content)
    if len(blob.shape) > MAX_SHAPE:
        raise DamagedFileError(f"the shape of {name[:80]!r} is damaged")
    shape = tuple(_parse("Shape", blob.shape).dim)
    data = blob.data[0] if len(blob.data) == 1 else b"".join(blob.data)
    if min(shape, default=0) < 0 or len(data) != 4 * math.prod(shape):
        sizes = f"{len(data) / 4:g} numbers, its shape is {shape}"
        raise DamagedFileError(f"a blob of the layer {name[:80]!r} has {sizes}")
    return np.frombuffer(data, "<f4").reshape(shape)
