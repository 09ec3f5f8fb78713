"""A first prediction by a new process: importing, building the network or opening a file, and one
photograph or one image.
"""

import json
import sys
from pathlib import Path

from benchmarks.side import make_once, run_measured

PREDICT = [sys.executable, "-m", "keras_senet_cli", "predict", "{folder}/photo.jpg"]
KERAS = """
import numpy as np
model = {make}(weights=None, input_shape=({size}, {size}, 3))
print(model(np.zeros((1, {size}, {size}, 3), "float32")).shape)
"""
TORCH = """
from benchmarks.torch_networks import create, torch
with torch.inference_mode():
    print(create({name!r}).eval()(torch.zeros(1, 3, {size}, {size})).shape)
"""
# what            the command of a new process
COMMANDS = {
    "build": [sys.executable, "-c", "import keras, keras_senet; keras_senet.{name}(weights=None)"],
    "keras_senet": [sys.executable, "-c", "import keras_senet" + KERAS],
    "keras.applications": [sys.executable, "-c", "import keras" + KERAS],
    "timm": [sys.executable, "-c", TORCH],
    "--workdir": [*PREDICT, "--workdir", "{folder}/run"],
    ".weights.h5": [*PREDICT, "--model", "{folder}/run/model.weights.h5"],
    ".onnx": [*PREDICT, "--model", "{folder}/model.onnx"],
    ".tflite": [*PREDICT, "--model", "{folder}/model.tflite"],
}


def write_files(folder, network):
    """A work directory, exported files and a photograph."""
    import numpy as np
    import tensorflow as tf

    import keras_senet
    from keras_senet import export

    folder = Path(folder)
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
    tf.io.write_file(str(folder / "photo.jpg"), tf.io.encode_jpeg(pixels))


def prepare(folder, threads, command, name, size):
    """A function that runs the command."""
    if any("{folder}" in word for word in COMMANDS[command]):
        make_once(Path(folder, "photo.jpg"), ".first_prediction:write_files", folder, name)
    make = f"{command}.{name}"
    words = [w.format(folder=folder, name=name, size=size, make=make) for w in COMMANDS[command]]

    return lambda: run_measured(words)
