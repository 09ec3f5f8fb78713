"""Faster R-CNN on the feature maps of a network, and its training."""

import keras_senet_cli
from keras_senet.detection.anchors import Anchors
from keras_senet.detection.recipe import Recipe
from keras_senet.detection.recipes import RECIPES
from keras_senet.detection.spec import FasterRCNN, Sampling
from keras_senet.extras import load_names

# Where the names are that need TensorFlow: they are imported when they are first used.
HOMES = {
    "AveragePrecision": "evaluation",
    "BoxedImages": "data",
    "DetectionBatches": "data",
    "Detections": "faster_rcnn",
    "Detector": "faster_rcnn",
    "Trainer": "trainer",
    "Truths": "data",
    "evaluate": "evaluation",
    "load": "files",
    "load_coco": "data",
    "load_data": "data",
    "load_scenes": "data",
    "load_torchvision": "torchvision",
    "save": "files",
    "write_scenes": "data",
}
__all__ = ["RECIPES", "Anchors", "FasterRCNN", "Recipe", "Sampling", "losses", *HOMES]
__getattr__ = load_names(__name__, HOMES)

if not keras_senet_cli.parsing:  # of the command line, which needs no TensorFlow
    from keras_senet.detection.losses import losses  # in place of the module of this name
