"""Exported files in their own runtimes, without the exporters' code: what the tests compare with
NumPy.
"""

import tempfile
from unittest import mock

import numpy as np
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_senet import export
from keras_senet.export import parity, run_file

WRITERS = {"savedmodel": export.to_saved_model, "tflite": export.to_tflite, "onnx": export.to_onnx}


def run(kind, path, images):
    """The outputs of a file for images (N, H, W, C): arrays by name."""
    if kind == "savedmodel":
        loaded = tf.saved_model.load(str(path))
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}
    if kind == "tflite":
        runner = Interpreter(str(path)).get_signature_runner()
        outputs = [runner(images=image[None]) for image in images]
        return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def run_in_this_process(path, kind, batches, cut=False, evaluated=None):
    """`parity.run_file` without a process of its own, and without timing: for tests of what it is
    compared with.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(run_file, "latency_ms", return_value=1.0),
    ):
        np.savez(f"{folder}/images.npz", *batches)
        if evaluated is not None:
            np.save(f"{folder}/evaluated.npy", evaluated)
        run_file.run_images(kind, str(path), folder, *(["before"] if cut else []))
        return parity.read_outputs(folder)
