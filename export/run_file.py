"""Runs an exported file in a process of its own: python run_file.py KIND PATH FOLDER.

FOLDER has `images.npy` and gets `measured.json` and `outputs/`: KIND.npy, and a file for each further signature.
Nothing of keras_senet is imported here, which is part of the proof: a file must run where only its runtime is.
"""

import json
import os
import resource
import statistics
import sys
import time

import numpy as np


def saved_model(path):
    """images -> predictions, by the SavedModel in a folder; a function a signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # must outlive its signatures

    def runner(name, prepare):
        signature = loaded.signatures[name]
        return lambda images: (loaded, signature(images=tf.constant(prepare(images)))["predictions"].numpy())[1]

    def as_uint8(images):
        return np.clip(np.round(images), 0, 255).astype("uint8")

    def as_png(images):
        (_, spec) = loaded.signatures["serve_uint8"].structured_input_signature
        channels_last = spec["images"].shape[-1] in (1, 3)
        pixels = as_uint8(images if channels_last else images.transpose(0, 2, 3, 1))
        return [tf.io.encode_png(image).numpy() for image in pixels]

    ways = {"serving_default": np.asarray, "serve_uint8": as_uint8, "serve_jpeg": as_png}
    runs = {name: runner(name, prepare) for name, prepare in ways.items() if name in loaded.signatures}
    return {"savedmodel": runs.pop("serving_default"), **runs}


def tflite(path):
    """images -> predictions, by LiteRT, one image at a time, in float32 at both ends."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    runner = interpreter.get_signature_runner()

    def run(images):
        outputs = [runner(images=_quantized(image[None], given))["predictions"] for image in images]
        return _dequantized(np.concatenate(outputs), made)

    return {"tflite": run}


def _quantized(images, details):
    if details["dtype"] == np.float32:
        return images
    scale, zero = details["quantization"]
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(images / scale + zero), limits.min, limits.max).astype(details["dtype"])


def _dequantized(outputs, details):
    if details["dtype"] == np.float32:
        return outputs
    scale, zero = details["quantization"]
    return (outputs.astype("float32") - zero) * np.float32(scale)


def onnx(path):
    """images -> predictions, by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return {"onnx": lambda images: session.run(["predictions"], {"images": images})[0]}


def latency_ms(run, image, seconds=1.0, least=3, most=50):
    """The median over `least` runs, and more while `seconds` last."""
    times = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def peak_memory():
    """Bytes. Linux' getrusage would count the parent's memory too, from before this program was loaded."""
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(kind, path, folder):
    """Runs the file on the folder's images, then times it on one."""
    runs = {"savedmodel": saved_model, "tflite": tflite, "onnx": onnx}[kind](path)
    images = np.load(f"{folder}/images.npy")
    os.mkdir(f"{folder}/outputs")
    for name, run in runs.items():
        outputs = [run(images[i : i + 16]) for i in range(0, len(images), 16)]
        np.save(f"{folder}/outputs/{name}.npy", np.concatenate(outputs))
    measured = {"latency_ms": latency_ms(runs[kind], images[:1]), "peak_memory": peak_memory()}
    with open(f"{folder}/measured.json", "w") as file:
        json.dump(measured, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
