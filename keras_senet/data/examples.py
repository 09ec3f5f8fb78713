"""Image and label of a serialised `tf.train.Example`; the label also without reading the image.

Source: tensorflow/core/example/feature.proto. An Example holds Features (field 1), they hold an
entry (1) a feature.
"""

import tensorflow as tf

PAGE = 4096  # bytes: reading less costs the disk as much
SMALL = 1024  # bytes: the entry of an integer is smaller
HEAD = 11  # bytes of a tag of field 1 and a length, at most
TAG = 0x0A  # field 1, with a length


class NotAnExampleError(ValueError):
    """A record is not a `tf.train.Example`, or lacks a feature."""


def image_and_label(record, image_key, label_key):
    """(bytes, integer) of two features of a record."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # protobuf's DecodeError, whose module differs between its versions
        raise NotAnExampleError("it is not a tf.train.Example") from error
    return _only(features, image_key, "bytes_list"), _only(features, label_key, "int64_list")


def integer(read, at, end, key):
    """An integer feature of the record at at..end of a file; `read(count, at)` gives bytes of it,
    such as os.pread.

    Large entries are stepped over, so that of a record with an image one or two pages are read.
    """
    page, base = read(min(PAGE, end - at), at), at
    at = _length(page, 0)[1] + base  # of the Example around the Features
    while at < end:
        if at + HEAD > base + len(page) < end:
            page, base = read(min(PAGE, end - at), at), at
        length, value = _length(page, at - base)
        after = base + value + length
        if length <= SMALL:
            if after > base + len(page) and after <= end:
                page, base = read(min(PAGE, end - at), at), at
            features = tf.train.Features.FromString(page[at - base : after - base]).feature
            if key in features:
                return _only(features, key, "int64_list")
        at = after
    raise NotAnExampleError(f"it has no feature {key!r}")


def _only(features, key, kind):
    values = getattr(features[key], kind).value if key in features else ()
    if len(values) != 1:
        raise NotAnExampleError(f"its feature {key!r} must be one value of {kind!r}")
    return values[0]


def _length(page, at):
    """(length, where what has it begins) of field 1, whose tag is at `at`."""
    length, shift = 0, 0
    if page[at : at + 1] == bytes([TAG]):
        for place in range(at + 1, min(at + HEAD, len(page))):
            length |= (page[place] & 127) << shift
            if page[place] < 128:
                return length, place + 1
            shift += 7
    raise NotAnExampleError("it is not a tf.train.Example")
