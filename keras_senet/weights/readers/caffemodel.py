"""`.caffemodel` files, by protobuf: the messages of caffe.proto with the few fields that hold weights.

An array is a packed field of floats, which on the wire are the bytes of the array: declared as bytes, they are taken as
they are. Messages inside others are declared as bytes too and read one by one, so that many small ones take no memory.
"""

import contextlib
import functools
import math

import numpy as np

from keras_senet.extras import require
from keras_senet.weights.readers import DamagedFileError, Entry

# Numbers of the fields in caffe.proto; `layers` is that of files older than 2014.
MESSAGES = {
    #        field      number type     repeated
    "Net": (("layer", 100, "bytes", True), ("layers", 2, "bytes", True)),
    "Layer": (("name", 1, "bytes", False), ("blobs", 7, "bytes", True)),
    "Blob": (("shape", 7, "bytes", False), ("data", 5, "bytes", True)),
    "Shape": (("dim", 1, "int64", True),),
}
MAX_LAYERS = 10_000
MAX_SHAPE = 64  # bytes
MAX_BLOBS = 3  # of a layer: batch normalisation has mean, variance and their factor


@functools.cache
def _messages():
    """The classes of the messages, in a pool of their own."""
    descriptor_pb2 = require("google.protobuf.descriptor_pb2", "weights")
    from google.protobuf import descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe_weights.proto", package="caffe_weights", syntax="proto2")
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            described.field.add(name=name, number=number, type=getattr(field, f"TYPE_{kind.upper()}"), label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe_weights.{name}")) for name in MESSAGES
    }


def _parse(message, content):
    from google.protobuf.message import DecodeError

    try:
        return _messages()[message].FromString(content)
    except DecodeError as error:
        raise DamagedFileError(f"a message is broken: {error}") from error


@contextlib.contextmanager
def opened(path):
    """The blobs of layers by name and number: "conv1:0" is the first of the layer conv1."""
    entries = {}
    for content in _layers(path):
        layer = _parse("Layer", content)
        name = layer.name.decode("utf-8", "replace")
        if len(layer.blobs) > MAX_BLOBS:
            raise DamagedFileError(f"the layer {name[:80]!r} has {len(layer.blobs)} blobs")
        for i, blob in enumerate(layer.blobs):
            if f"{name}:{i}" in entries:
                raise DamagedFileError(f"two layers are called {name[:80]!r}")
            entries[f"{name}:{i}"] = _entry(blob, name)
    yield entries, None


def _layers(path):
    """The layers' messages one after the other; each is let go of before the next, so that all is in memory once."""
    net = _parse("Net", path.read_bytes())
    if net.layers or not net.layer:
        raise DamagedFileError("it has no layers in the format that Caffe writes since 2014")
    if len(net.layer) > MAX_LAYERS:
        raise DamagedFileError(f"it has {len(net.layer)} layers")
    layers = list(reversed(net.layer))
    del net
    while layers:
        yield layers.pop()


def _entry(content, name):
    """A blob's array; it has as many floats as its shape says."""
    blob = _parse("Blob", content)
    if len(blob.shape) > MAX_SHAPE:
        raise DamagedFileError(f"the shape of {name[:80]!r} is damaged")
    shape = tuple(_parse("Shape", blob.shape).dim)
    data = blob.data[0] if len(blob.data) == 1 else b"".join(blob.data)
    if min(shape, default=0) < 0 or len(data) != 4 * math.prod(shape):
        sizes = f"{len(data) / 4:g} numbers, its shape is {shape}"
        raise DamagedFileError(f"a blob of the layer {name[:80]!r} has {sizes}")
    return Entry(shape, lambda: np.frombuffer(data, "<f4").reshape(shape))
