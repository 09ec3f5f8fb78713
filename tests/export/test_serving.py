"""What a SavedModel serves for encoded images is what the evaluation computes of them. Needs
TFDS_DATA_DIR.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_senet
from keras_senet import data, export
from keras_senet.data import evaluation_batches
from keras_senet.evaluation import networks
from keras_senet.imagenet import imagenet_classes

IMAGES = 200


@pytest.mark.slow
def test_photographs_are_served_as_they_are_evaluated(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_senet.SEResNet18(weights=None)
    photographs = data.load("imagenet2012", "test")
    network = networks.Network(model, networks.views_of(model, photographs, None))
    shown = evaluation_batches(
        photographs, 10, lambda image: tuple(view(image) for view in network.views)
    )
    batches = (network(dict(zip(network.views, views, strict=True))).numpy() for views, _ in shown)
    evaluated = np.concatenate(list(batches))[:IMAGES]
    assert len(evaluated) == IMAGES

    names = [f"{c.wordnet_id} {c.name}" for c in imagenet_classes()]
    export.to_saved_model(
        model, tmp_path / "saved", preprocessing=model.preprocessing, class_names=names
    )
    serve = tf.saved_model.load(tmp_path / "saved").signatures["serve_jpeg"]
    encoded, _ = photographs.fetch(np.arange(IMAGES))
    batches = [serve(images=tf.constant(list(encoded[i : i + 10]))) for i in range(0, IMAGES, 10)]
    served = np.concatenate([batch["predictions"] for batch in batches])
    classes = np.concatenate([batch["classes"] for batch in batches])
    spread = evaluated.std(axis=0).mean()  # how much the outputs differ from image to image
    difference = np.abs(served - evaluated).max()
    print(f"{IMAGES} images: max abs. error {difference:.1e}, probabilities spread by {spread:.1e}")
    assert difference < 1e-3 * spread
    assert [label.decode() for label in classes] == [names[i] for i in evaluated.argmax(axis=-1)]
