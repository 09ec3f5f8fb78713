"""Runs the tiny network of each family on the backend at hand: python answers.py read|write FOLDER.

FOLDER has `images_<size>.npy`, and for "read" a `<family>.weights.h5` each; both leave
`<family>.<backend>.npy` with the answers, and "write" the weights too. `folded.<backend>.npy` has
those of the FOLDED family without batch normalisation.
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


def settled(model, images):
    """The model with statistics as after training, so that activations have usual magnitudes."""
    for _ in range(8):
        model(images, training=True)
    return model


def main(mode, folder):
    for name in FAMILIES:
        images = np.load(folder / f"images_{TINY[name].size}.npy")
        path = folder / f"{name}.weights.h5"
        if mode == "write":
            keras.utils.set_random_seed(0)
            model = settled(TINY[name].constructor(weights=None), images)
            keras_senet.save_weights(model, path)
        else:
            model = TINY[name].constructor(weights=path)
        answers = keras.ops.convert_to_numpy(model(images, training=False))
        np.save(folder / f"{name}.{keras.backend.backend()}.npy", answers)
        if name == FOLDED:
            folded = fold(model)
            assert folded.count_params() < model.count_params()
            answers = keras.ops.convert_to_numpy(folded(images, training=False))
            np.save(folder / f"folded.{keras.backend.backend()}.npy", answers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
