"""What tools read of a TFLite file: its metadata's flatbuffer, taken apart here by slot numbers,
and its labels.
"""

import functools
import io
import re
import struct
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import encode, number_types
from flatbuffers.table import Table

import keras_senet
from keras_senet import export
from keras_senet.export.serving import serving_function
from keras_senet.export.tflite_converter import convert
from keras_senet.export.tflite_metadata import Metadata, read_metadata, with_metadata

PREPROCESSING = keras_senet.Preprocessing(
    (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), size=8
)
GREY = keras_senet.Preprocessing((1 / 3,), (1e-7,), size=8)
NAMES = ("déjà vu", "日本", "ship, sail")
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("float32")
FILES = {
    "float32": {},
    "int8": {"quantization": "int8", "representative_images": IMAGES},
    "int8 ends": {"quantization": "int8", "representative_images": IMAGES, "io_dtype": "int8"},
    "uint8 ends": {"quantization": "int8", "representative_images": IMAGES, "io_dtype": "uint8"},
}


@functools.cache
def exported(kind="float32", channels=3):
    """The bytes of a tiny network's file, as the converter makes them."""
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, channels))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(images)
    x = keras_senet.SqueezeExcite(reduction=2)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(3, activation="softmax")(x), name="tiny")
    options, preprocessing = dict(FILES[kind]), PREPROCESSING if channels == 3 else GREY
    images = options.pop("representative_images", None)
    common = export.Common(preprocessing=preprocessing, representative_images=[images])
    serve = serving_function(model, preprocessing, batch=1)
    return convert(model, serve, export.TFLite(**options), common)


@pytest.fixture(params=FILES)
def each(request):
    return exported(request.param)


@pytest.fixture
def content():
    return exported()


@pytest.fixture
def named(content):
    return with_metadata(content, name="réseau", preprocessing=PREPROCESSING, class_names=NAMES)


# A second reader, by the flatbuffers package and the slot numbers of metadata_schema.fbs


def root(data):
    return Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))


def field(table, slot):
    offset = table.Offset(4 + 2 * slot)
    return table.Pos + offset if offset else None


def child(table, slot):
    return Table(table.Bytes, table.Indirect(field(table, slot)))


def children(table, slot):
    if field(table, slot) is None:
        return []
    offset = table.Offset(4 + 2 * slot)
    return [
        Table(table.Bytes, table.Indirect(table.Vector(offset) + 4 * i))
        for i in range(table.VectorLen(offset))
    ]


def text(table, slot):
    return table.String(field(table, slot)).decode()


def numbers(table, slot, flags):
    offset = table.Offset(4 + 2 * slot)
    start = table.Vector(offset)
    return [table.Get(flags, start + flags.bytewidth * i) for i in range(table.VectorLen(offset))]


def floats(table, slot):
    return numbers(table, slot, number_types.Float32Flags)


def byte(table, slot):
    return table.Get(number_types.Uint8Flags, field(table, slot))


def packed_metadata(content):
    """The buffers of all entries TFLITE_METADATA."""
    model = root(content)
    entries = [entry for entry in children(model, 6) if text(entry, 0) == "TFLITE_METADATA"]
    indices = [entry.Get(number_types.Uint32Flags, field(entry, 1)) for entry in entries]
    return [bytes(numbers(children(model, 4)[i], 0, number_types.Uint8Flags)) for i in indices]


def tensors(content):
    """(metadata, images, predictions): the tables."""
    (packed,) = packed_metadata(content)
    assert packed[4:8] == b"M001"
    metadata = root(packed)
    (graph,) = children(metadata, 3)
    (images,), (predictions,) = children(graph, 2), children(graph, 3)
    return metadata, images, predictions


def run(content, images):
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["images"], "outputs": ["predictions"]}
    }
    dtype = interpreter.get_input_details()[0]["dtype"]
    shifted = images - 128 if dtype == np.int8 else images
    return interpreter.get_signature_runner()(images=shifted.astype(dtype))["predictions"]


def test_tools_find_the_fields(each):
    metadata, images, predictions = tensors(
        with_metadata(each, name="réseau", preprocessing=PREPROCESSING, class_names=NAMES)
    )
    assert (text(metadata, 0), text(metadata, 7)) == ("réseau", "1.0.0")
    assert (text(images, 0), text(predictions, 0)) == ("images", "predictions")
    content = child(images, 3)
    assert byte(content, 0) == 2  # ImageProperties
    assert byte(child(content, 1), 0) == 1  # RGB
    (unit,) = children(images, 4)
    assert byte(unit, 0) == 1  # NormalizationOptions
    options = child(unit, 1)
    assert (floats(options, 0), floats(options, 1)) == ([0.0], [1.0])
    assert byte(child(predictions, 3), 0) == 1  # FeatureProperties
    (labels,) = children(predictions, 6)
    assert (text(labels, 0), byte(labels, 2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_stats_are_of_the_tensor_s_own_values(each):
    dtype = Interpreter(model_content=each).get_input_details()[0]["dtype"]
    _, images, _ = tensors(
        with_metadata(each, name="tiny", preprocessing=PREPROCESSING, class_names=None)
    )
    if dtype == np.int8:
        assert field(images, 5) is None
    else:
        stats = child(images, 5)
        assert (floats(stats, 0), floats(stats, 1)) == ([255.0], [0.0])


def test_labels_are_in_an_uncompressed_archive(named):
    with zipfile.ZipFile(io.BytesIO(named)) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(entry) == "déjà vu\n日本\nship, sail\n".encode()
    assert struct.unpack("<I", named[-6:-2]) == (
        named.index(b"PK\x01\x02"),
    )  # from the beginning of the file


def test_metadata_are_read_back(each):
    named = with_metadata(each, name="réseau", preprocessing=PREPROCESSING, class_names=NAMES)
    assert read_metadata(named) == Metadata("réseau", PREPROCESSING.mean, PREPROCESSING.std, NAMES)


def test_nothing_is_said_of_what_is_not_known(content):
    plain = with_metadata(content, name="tiny", preprocessing=None, class_names=None)
    assert read_metadata(plain) == Metadata("tiny", None, None, None)
    _, images, predictions = tensors(plain)
    assert (field(images, 4), field(images, 5), field(predictions, 6)) == (None, None, None)
    assert not zipfile.is_zipfile(io.BytesIO(plain))


def test_grey_images():
    named = with_metadata(exported(channels=1), name="grey", preprocessing=GREY, class_names=None)
    assert read_metadata(named) == Metadata("grey", GREY.mean, GREY.std, None)
    _, images, _ = tensors(named)
    assert byte(child(child(images, 3), 1), 0) == 2  # GRAYSCALE


def test_the_model_is_untouched(each):
    named = with_metadata(each, name="tiny", preprocessing=PREPROCESSING, class_names=NAMES)
    place = named.index(each)
    assert place % 16 == 0
    assert named[4:8] == b"TFL3"
    entries = [[text(entry, 0) for entry in children(root(file), 6)] for file in (each, named)]
    assert entries[1] == [*entries[0], "TFLITE_METADATA"]
    np.testing.assert_array_equal(run(named, IMAGES[:1]), run(each, IMAGES[:1]))


@pytest.mark.parametrize("class_names", [None, NAMES])
def test_metadata_are_replaced(content, named, class_names):
    again = with_metadata(named, name="other", preprocessing=None, class_names=class_names)
    assert again == with_metadata(
        content, name="other", preprocessing=None, class_names=class_names
    )
    assert len(packed_metadata(again)) == 1


def test_metadata_of_another_tool_are_replaced(content):
    """Where they cannot be cut off before the model, here because what follows no longer begins
    as a file does.
    """
    former = with_metadata(content, name="former", preprocessing=None, class_names=None)
    place = former.index(b"TFL3", 8)
    former = former[:place] + bytes(4) + former[place + 4 :]
    named = with_metadata(former, name="tiny", preprocessing=PREPROCESSING, class_names=NAMES)
    assert former in named
    assert len(packed_metadata(named)) == 1
    assert read_metadata(named) == Metadata("tiny", PREPROCESSING.mean, PREPROCESSING.std, NAMES)
    np.testing.assert_array_equal(run(named, IMAGES[:1]), run(content, IMAGES[:1]))


@pytest.mark.parametrize("bad", ["two\nlines", "two\r", "\u2028", "", "\ud800"])
def test_names_are_one_line(content, bad):
    with pytest.raises(ValueError, match="`class_names` must be text of one line"):
        with_metadata(content, name="tiny", preprocessing=None, class_names=["a", bad, "c"])
    with pytest.raises(ValueError, match="`name` must be text of one line"):
        with_metadata(content, name=bad, preprocessing=None, class_names=None)


def test_names_and_channels_are_as_many_as_the_file_s(content):
    with pytest.raises(ValueError, match=re.escape("whose shape is (3,). Received: 2 names")):
        with_metadata(content, name="tiny", preprocessing=None, class_names=["a", "b"])
    with pytest.raises(ValueError, match="`preprocessing` must be of 3 channels"):
        with_metadata(content, name="tiny", preprocessing=GREY, class_names=None)


@pytest.mark.parametrize(
    "other", [b"", b"TFL3", b"PK\x03\x04 another archive", b"\x08\0\0\0ONNX" + bytes(64)]
)
def test_other_bytes_are_refused(other):
    for attempt in (
        read_metadata,
        lambda other: with_metadata(other, name="tiny", preprocessing=None, class_names=None),
    ):
        with pytest.raises(
            ValueError, match="`content` must be the bytes of a TFLite file"
        ) as caught:
            attempt(other)
        assert "\n" not in str(caught.value)


def test_a_file_without_metadata_is_told(content):
    with pytest.raises(
        ValueError, match="`content` must have metadata. Received: a TFLite file without"
    ):
        read_metadata(content)


@pytest.mark.parametrize("kept", [-1, -30, -60])
def test_a_truncated_archive_is_told(named, kept):
    for attempt in (
        read_metadata,
        lambda cut: with_metadata(cut, name="a", preprocessing=None, class_names=None),
    ):
        with pytest.raises(
            ValueError, match="must end with the zip archive .* Received: no whole 'labels.txt'"
        ):
            attempt(named[:kept])


def test_an_archive_without_the_labels_is_told(named):
    with pytest.raises(ValueError, match="Received: no whole 'labels.dat'"):
        read_metadata(named.replace(b"labels.txt", b"labels.dat", 1))


def complaint(content):
    try:
        read_metadata(content)
    except ValueError as error:
        return str(error)
    return ""


def test_damage_is_told_in_one_line(named):
    """Bytes of the front and of the archive changed at random, and files cut short."""
    random = np.random.default_rng(0)
    front = named.index(b"TFL3", 8)
    places = [*random.integers(0, front, 200), *random.integers(len(named) - 200, len(named), 100)]
    damaged = [named[:at] + random.bytes(1) + named[at + 1 :] for at in places]
    cut = [named[:at] for at in random.integers(0, len(named), 100)]
    complaints = [complaint(content) for content in (*damaged, *cut)]
    assert all(re.fullmatch("(`content` must .*)?", each) for each in complaints)
    assert all(complaints[len(damaged) :])


def test_weights_outside_of_the_flatbuffer_are_refused(content):
    """As in files over 2 GB: they are at places counted from the beginning of the file."""
    model = schema.ModelT.InitFromPackedBuf(content)
    model.buffers[1].offset = 2**31
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(ValueError, match="at most 2 GB"):
        with_metadata(bytes(builder.Output()), name="tiny", preprocessing=None, class_names=None)


def test_labels_that_unpack_to_more_than_the_file(named):
    """A few kilobytes that would take memory without bounds."""
    with zipfile.ZipFile(io.BytesIO(named)) as archive:
        model = named[: archive.getinfo("labels.txt").header_offset]
    file = io.BytesIO()
    file.write(model)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", b"\n" * (10 * len(named)))
    assert len(file.getvalue()) < 2 * len(named)
    with pytest.raises(ValueError, match="more than the file has"):
        read_metadata(file.getvalue())


def test_logits_are_said(content):
    for logits in (False, True):
        named = with_metadata(
            content, name="tiny", preprocessing=PREPROCESSING, class_names=NAMES, logits=logits
        )
        assert read_metadata(named).logits == logits
        _, _, predictions = tensors(named)
        assert ("before a softmax" in text(predictions, 1)) == logits
