"""A first `keras-senet predict` of one photograph over `import keras` and building the network.

    python benchmarks/first_prediction.py [--network SEResNet50] [--rounds 5]

Each side is a new process. CPU time and wall time are given, each as the least of rounds in turn.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BUILD = "import keras, keras_senet; keras_senet.{}(weights=None)"


def prepare(folder, network):
    """The commands by their names; a work directory, an exported file and a photograph are made."""
    import json

    import tensorflow as tf

    import keras_senet
    from keras_senet import export

    model = getattr(keras_senet, network)(weights=None)
    run = folder / "run"
    run.mkdir()
    model.class_names = [f"class {i}" for i in range(model.output_shape[-1])]
    model.save(run / "model.keras")
    keras_senet.save_weights(model, run / "model.weights.h5")
    recipe = {"model": network, "dataset": "digits"}
    content = {"recipe": recipe, "class_names": list(model.class_names)}
    (run / "recipe.json").write_text(json.dumps(content))
    names = {"preprocessing": model.preprocessing, "class_names": model.class_names}
    export.to_onnx(model, folder / "model.onnx", **names)
    export.to_tflite(model, folder / "model.tflite", **names)
    pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), "uint8")
    photo = folder / "photo.jpg"
    tf.io.write_file(str(photo), tf.io.encode_jpeg(pixels))
    predict = [sys.executable, "-m", "keras_senet_cli", "predict", str(photo)]
    return {
        "import keras and build": [sys.executable, "-c", BUILD.format(network)],
        "predict --workdir": [*predict, "--workdir", str(run)],
        "predict --model .weights.h5": [*predict, "--model", str(run / "model.weights.h5")],
        "predict --model .onnx": [*predict, "--model", str(folder / "model.onnx")],
        "predict --model .tflite": [*predict, "--model", str(folder / "model.tflite")],
    }


def take(command):
    """(CPU seconds, wall seconds) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(process.stderr.read().decode())
    process.stderr.close()
    return usage.ru_utime + usage.ru_stime, wall


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="SEResNet50")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = prepare(Path(folder), options.network)
        times = {name: [] for name in commands}
        for _ in range(options.rounds + 1):
            for name, command in commands.items():
                times[name].append(take(command))
    base = None
    for name, taken in times.items():
        cpu, wall = map(min, zip(*taken[1:], strict=True))  # the first fills the disk's cache
        base = base or (cpu, wall)
        ratio = f"{cpu / base[0]:.2f} {wall / base[1]:.2f}"
        print(f"{name:28} CPU {cpu:6.2f} s, wall {wall:6.2f} s, ratios {ratio}")


if __name__ == "__main__":
    main()
