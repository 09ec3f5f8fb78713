"""Runs the tiny network of each family on the current backend: python outputs.py read|write FOLDER.

FOLDER has `images_<size>.npy`, and for "read" one `<family>.weights.h5` per family; both modes
write the outputs to `<family>.<backend>.npy`, and "write" also the weights. `folded.<backend>.npy`
has those of the FOLDED family without batch normalisation.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from tiny import TINY

import keras_senet
from keras_senet.export import fold

FOLDED = "small"
FAMILIES = [name for name in TINY if name != "preact_pad"]


def train_statistics(model, images):
    """The model with statistics as after training, for activations of usual magnitudes."""
    for _ in range(8):
        model(images, training=True)
    return model


def main(mode, folder):
    for name in FAMILIES:
        images = np.load(folder / f"images_{TINY[name].size}.npy")
        path = folder / f"{name}.weights.h5"
        if mode == "write":
            keras.utils.set_random_seed(0)
            model = train_statistics(TINY[name].constructor(weights=None), images)
            keras_senet.save_weights(model, path)
        else:
            model = TINY[name].constructor(weights=path)
        outputs = keras.ops.convert_to_numpy(model(images, training=False))
        np.save(folder / f"{name}.{keras.backend.backend()}.npy", outputs)
        if name == FOLDED:
            folded = fold(model)
            assert folded.count_params() < model.count_params()
            outputs = keras.ops.convert_to_numpy(folded(images, training=False))
            np.save(folder / f"folded.{keras.backend.backend()}.npy", outputs)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
