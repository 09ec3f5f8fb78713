"""Image and label of a serialised `tf.train.Example`; the label also without reading the image.

Source: tensorflow/core/example/feature.proto. An Example holds Features (field 1), which hold one
entry (1) per feature.
"""

from collections.abc import Callable

from keras_senet.protobuf import LONGEST, read_varint

PAGE = 4096  # bytes: reading less costs the disk as much
SMALL = 1024  # bytes: the entry of an integer is smaller
HEAD = 1 + LONGEST  # bytes of a tag of field 1 and a length, at most
TAG = b"\x0a"  # field 1, with a length


class NotAnExampleError(ValueError):
    """A record is not a `tf.train.Example`, or lacks a feature."""


def read_image_and_label(record: bytes, image_key: str, label_key: str) -> tuple[bytes, int]:
    """(bytes, integer) of two features of a record."""
    import tensorflow as tf

    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # protobuf's DecodeError, whose module differs between its versions
        raise NotAnExampleError("it is not a tf.train.Example") from error
    return _only(features, image_key, "bytes_list"), _only(features, label_key, "int64_list")


def read_integer(read: Callable[[int, int], bytes], at: int, end: int, key: str) -> int:
    """An integer feature of the record at at..end of a file; `read(count, at)` returns bytes of the
    file, as os.pread does.

    Large entries are skipped: of a record with an image only one or two pages are read.
    """
    import tensorflow as tf

    page, base = read(min(PAGE, end - at), at), at
    at = _read_length(page, 0)[1] + base  # of the Features in the Example
    while at < end:
        if at + HEAD > base + len(page) < end:
            page, base = read(min(PAGE, end - at), at), at
        length, value = _read_length(page, at - base)
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


def _read_length(page, at):
    """(length, where its content begins) of field 1, whose tag is at `at`."""
    try:
        if page[at : at + 1] == TAG:
            return read_varint(page, at + 1)
    except ValueError:
        pass
    raise NotAnExampleError("it is not a tf.train.Example")
