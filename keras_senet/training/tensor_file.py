"""Files of arrays in the safetensors format, with a checksum: what a checkpoint must have, and the
library of that name, an optional one here, does not.

The format: 8 bytes of the header's length, the header as JSON (name -> dtype, shape, offsets), the
arrays one after another. Source: github.com/huggingface/safetensors, README, "Format".
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_senet.files import read_bytes, replacing

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
METADATA, CHECKSUM = "__metadata__", "crc32"


class DamagedTensorsError(ValueError):
    """A file is not what was written."""


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]):
    """Writes arrays and texts by their names, whole or not at all.

    Raises:
        OSError: if the file cannot be written; names it.
    """
    header, end = {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": NAMES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    contents = [np.ascontiguousarray(array).reshape(-1).view("uint8") for array in arrays.values()]
    header[METADATA] = {**metadata, CHECKSUM: str(_check(header, metadata, contents))}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for content in contents:
            file.write(content)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, texts) of a file of `write_tensors`.

    Raises:
        DamagedTensorsError: for anything else.
        OSError: if it cannot be read.
    """
    content = memoryview(read_bytes(path))
    try:
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(bytes(content[8 : 8 + length])), content[8 + length :]
        metadata = dict(header.pop(METADATA))
        checksum = int(metadata.pop(CHECKSUM))
        arrays = {name: _cut(data, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedTensorsError(f"it cannot be read: {error}") from error
    if checksum != _check(header, metadata, [data]):
        raise DamagedTensorsError("its checksum is another one")
    return arrays, metadata


def _cut(data, entry):
    begin, end = entry["data_offsets"]
    dtype, shape = np.dtype(DTYPES[entry["dtype"]]), entry["shape"]
    if end - begin != dtype.itemsize * math.prod(shape):
        raise ValueError("its header is damaged")
    return np.frombuffer(data[begin:end], dtype).reshape(shape)


def _check(header, metadata, contents):
    """The checksum of everything but itself."""
    checksum = zlib.crc32(json.dumps([header, metadata], sort_keys=True).encode())
    for content in contents:
        checksum = zlib.crc32(content, checksum)
    return checksum
