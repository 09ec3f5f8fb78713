"""Exported files in their runtimes, and the time that exporting takes, two threads each: python
benchmarks/export.py

Needs timm and torch (CONTRIBUTING.md). Sections: onnx, tflite, int8, overhead, time; all by
default.
"""

import argparse
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from ratio import measure

import keras_senet
from keras_senet import export
from keras_senet.export.inputs import synthetic_images

THREADS = 2
IMAGE = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype("float32")
PEERS = {"SEResNet50": "legacy_seresnet50", "SEResNeXt50": "legacy_seresnext50_32x4d"}


def in_onnx_runtime(path, image):
    """A function that runs the file on an image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    # Its threads would wait for the next run by spinning, on the cores that the other side then
    # runs on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return lambda: session.run(None, {name: image})


def in_litert(path):
    """The same of a TFLite file."""
    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    interpreter.set_tensor(given["index"], IMAGE)
    return interpreter.invoke


def network(name, **changes):
    """A network with the statistics of the images that exports compare on: else its outputs are so
    large that rounding decides the class."""
    keras.utils.set_random_seed(0)
    constructor = getattr(keras_senet, name)
    if changes:
        constructor = constructor.variant(replace(constructor.spec, **changes))
    model = constructor(weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(synthetic_images(model, None), training=True)
    return model


def by_timm(name, path):
    """timm's network in an ONNX file, by torch's exporter that needs nothing beside torch."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))
    from timm_networks import timm, torch

    model = timm.create_model(PEERS[name]).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, torch.zeros(1, 3, 224, 224), str(path), opset_version=18, dynamo=False
        )


def onnx(folder, rounds):
    """ONNX Runtime: our files, in both layouts, over timm's."""
    for name in PEERS:
        by_timm(name, folder / "timm.onnx")
        peer = in_onnx_runtime(folder / "timm.onnx", IMAGE.transpose(0, 3, 1, 2))
        model = network(name)
        for layout, image in (("nhwc", IMAGE), ("nchw", IMAGE.transpose(0, 3, 1, 2))):
            export.to_onnx(model, folder / "ours.onnx", layout=layout, overwrite=True)
            ours = in_onnx_runtime(folder / "ours.onnx", image)
            measure((f"ours, {name}, {layout}", "timm"), (ours, peer), rounds)


def tflite(folder, rounds):
    """Our TFLite file by LiteRT over our ONNX file by ONNX Runtime."""
    for name in ("SEResNet50", "SEResNeXt50", "SEMobileNet", "SEShuffleNet"):
        model = network(name)
        export.to_tflite(model, folder / "file.tflite", overwrite=True)
        export.to_onnx(model, folder / "file.onnx", overwrite=True)
        functions = in_litert(folder / "file.tflite"), in_onnx_runtime(folder / "file.onnx", IMAGE)
        measure((f"LiteRT, {name}", "ONNX Runtime"), functions, rounds)


def int8(folder, rounds):
    """float32 over int8, in both runtimes."""
    images = np.random.default_rng(0).normal(size=(8, 224, 224, 3)).astype("float32")
    for name in ("SEResNet50", "SEMobileNet"):
        model = network(name)
        for write, open_file in (
            (export.to_tflite, in_litert),
            (export.to_onnx, lambda path: in_onnx_runtime(path, IMAGE)),
        ):
            write(model, folder / "float", overwrite=True)
            write(
                model,
                folder / "int8",
                quantization="int8",
                representative_images=images,
                overwrite=True,
            )
            functions = open_file(folder / "float"), open_file(folder / "int8")
            measure((f"float32, {name}, {write.__name__}", "int8"), functions, rounds)


def overhead(folder, rounds):
    """The network with SE blocks over the one without."""
    models = {"se": network("SEResNet50"), "plain": network("SEResNet50", se=None)}
    for write, open_file in (
        (export.to_tflite, in_litert),
        (export.to_onnx, lambda path: in_onnx_runtime(path, IMAGE)),
    ):
        for name, model in models.items():
            write(model, folder / name, overwrite=True)
        names = (f"SE-ResNet-50, {write.__name__}", "ResNet-50")
        measure(names, [open_file(folder / name) for name in models], rounds)


def seconds(folder, rounds):
    """Exporting, with the run and the comparison; Keras' exporter only writes."""
    model, peer = network("SEResNet50"), keras.applications.ResNet50(weights=None)
    peer(IMAGE)  # Keras exports what has been called
    for name, function in {
        "SEResNet50, to_onnx": lambda: export.to_onnx(model, folder / "file.onnx"),
        "SEResNet50, to_tflite": lambda: export.to_tflite(model, folder / "file.tflite"),
        "SEResNet50, to_saved_model": lambda: export.to_saved_model(model, folder / "saved"),
        "keras.applications.ResNet50, Keras": lambda: peer.export(
            folder / "peer.onnx", format="onnx", verbose=False
        ),
    }.items():
        start = time.perf_counter()
        function()
        print(f"{name:34} {time.perf_counter() - start:8.1f} s")


SECTIONS = {"onnx": onnx, "tflite": tflite, "int8": int8, "overhead": overhead, "time": seconds}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all"
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    for section in options.sections or SECTIONS:
        print(f"-- {section}: {SECTIONS[section].__doc__}")
        with tempfile.TemporaryDirectory() as place:
            SECTIONS[section](Path(place), options.rounds)
