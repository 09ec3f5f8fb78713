"""Image and label of a serialised `tf.train.Example`; the label also without reading the image.

Source: tensorflow/core/example/feature.proto. An Example holds Features (field 1), which hold one
entry (1) per feature.
"""

from collections.abc import Callable, Iterator, Mapping

from keras_senet.protobuf import LONGEST, read_varint

PAGE = 4096  # bytes: reading less costs the disk as much
SMALL = 1024  # bytes: the entry of an integer is smaller
HEAD = 1 + LONGEST  # bytes of a tag of field 1 and a length, at most
TAG = b"\x0a"  # field 1, with a length


class NotAnExampleError(ValueError):
    """A record is not a `tf.train.Example`, or lacks a feature."""


def read_image_and_label(record: bytes, image_key: str, label_key: str) -> tuple[bytes, int]:
    """(bytes, integer) of two features of a record."""
    features = _parse("Example", record).features.feature
    return _only(features, image_key, "bytes_list"), _only(features, label_key, "int64_list")


class Pages:
    """Bytes of a record at at..end of a file, read a page or more at once.

    `read(count, at)` returns bytes of the file, as os.pread does.
    """

    def __init__(self, read: Callable[[int, int], bytes], at: int, end: int):
        self.read, self.at, self.end = read, at, end
        self.page, self.first = b"", at

    def get(self, at: int, count: int) -> bytes:
        """`count` bytes, or those up to the end."""
        count = min(count, self.end - at)
        if at < self.first or at + count > self.first + len(self.page):
            self.page, self.first = self.read(min(max(PAGE, count), self.end - at), at), at
        return self.page[at - self.first : at - self.first + count]

    def entries(self) -> Iterator[tuple[int, int]]:
        """Where each feature's entry in a `tf.train.Example` begins and ends; reads no others."""
        at = self.at + _read_length(self.get(self.at, HEAD))[1]  # of the Features in the Example
        while at < self.end:
            length, value = _read_length(self.get(at, HEAD))
            yield at, at + value + length
            at += value + length


def read_integer(read: Callable[[int, int], bytes], at: int, end: int, key: str) -> int:
    """An integer feature of the record at at..end of a file, as `Pages` reads it.

    Large entries are skipped: of a record with an image only one or two pages are read.
    """
    pages = Pages(read, at, end)
    for begin, after in pages.entries():
        if after - begin <= SMALL:
            features = _parse("Features", pages.get(begin, after - begin)).feature
            if key in features:
                return _only(features, key, "int64_list")
    raise NotAnExampleError(f"it has no feature {key!r}")


def read_features(
    read: Callable[[int, int], bytes], at: int, end: int, beginning: Mapping[str, int]
) -> dict[str, list]:
    """All features of the record at at..end of a file, {name: values}; of those in `beginning` only
    so many bytes of their one value are read.
    """
    pages, found = Pages(read, at, end), {}
    for begin, after in pages.entries():
        key, value = _read_key(pages.get(begin, SMALL))
        if key in beginning:
            # Feature, BytesList, and the value itself, each with its length
            content = pages.get(begin + value, beginning[key] + 3 * HEAD)
            for _ in range(3):
                content = content[_read_length(content, content[:1])[1] :]
            found[key] = [content[: beginning[key]]]
            continue
        entry = _parse("Features", pages.get(begin, after - begin))
        (feature,) = entry.feature.values()
        kind = feature.WhichOneof("kind")
        found[key] = list(getattr(feature, kind).value) if kind else []
    return found


def _parse(message, content):
    import tensorflow as tf  # other data need no TensorFlow

    try:
        return getattr(tf.train, message).FromString(content)
    except Exception as error:  # protobuf's DecodeError, whose module differs between its versions
        raise NotAnExampleError("it is not a tf.train.Example") from error


def _read_key(entry):
    """(name of the feature, where its value begins) of an entry."""
    at = _read_length(entry)[1]
    length, value = _read_length(entry[at:])
    return entry[at + value :][:length].decode(), at + value + length


def _only(features, key, kind):
    values = getattr(features[key], kind).value if key in features else ()
    if len(values) != 1:
        raise NotAnExampleError(f"its feature {key!r} must be one value of {kind!r}")
    return values[0]


def _read_length(content, tag=TAG):
    """(length, where what is so long begins) of a field at the beginning of some bytes."""
    try:
        if tag and content[: len(tag)] == tag:
            return read_varint(content, len(tag))
    except ValueError:
        pass
    raise NotAnExampleError("it is not a tf.train.Example")
