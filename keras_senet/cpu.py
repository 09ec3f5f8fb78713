"""What TensorFlow computes with on this machine."""

import functools
import glob
import os

from keras_senet_cli import instruction_set


def uses_onednn():
    """Whether TensorFlow computes with oneDNN, by the user, the CPU and the launcher."""
    from tensorflow.python.util import _pywrap_util_port  # pyright: ignore[reportMissingImports]

    return bool(_pywrap_util_port.IsMklEnabled())


def has_avx512():
    """Whether oneDNN may use AVX-512 on this machine; False where that cannot be read."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return (
        limit.startswith(("ALL", "DEFAULT", "AVX512", "AVX10"))
        and "avx512dq" in instruction_set().split()
    )


def finds_gpu():
    """Whether there is a GPU of NVIDIA for this process, which TensorFlow may still not use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    return any(glob.glob(place) for place in ("/dev/nvidia[0-9]*", "/dev/dxg"))


@functools.cache
def has_gpu():
    """Whether TensorFlow has a GPU; asking starts it."""
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))
