"""Faster R-CNN on the feature maps of a network, and its training.

Its names are loaded when they are first used: the recipes are plain data, which the command line
reads without Keras.
"""

from typing import TYPE_CHECKING

from keras_senet.extras import load_names

if TYPE_CHECKING:
    from keras_senet.detection.anchors import Anchors as Anchors
    from keras_senet.detection.data import BoxedImages as BoxedImages
    from keras_senet.detection.data import DetectionBatches as DetectionBatches
    from keras_senet.detection.data import Truths as Truths
    from keras_senet.detection.data import load_coco as load_coco
    from keras_senet.detection.data import load_data as load_data
    from keras_senet.detection.data import load_scenes as load_scenes
    from keras_senet.detection.data import write_scenes as write_scenes
    from keras_senet.detection.detections import Detections as Detections
    from keras_senet.detection.evaluation import AveragePrecision as AveragePrecision
    from keras_senet.detection.evaluation import evaluate as evaluate
    from keras_senet.detection.faster_rcnn import Detector as Detector
    from keras_senet.detection.files import load as load
    from keras_senet.detection.files import save as save
    from keras_senet.detection.loss import losses as losses
    from keras_senet.detection.recipe import Recipe as Recipe
    from keras_senet.detection.recipes import RECIPES as RECIPES
    from keras_senet.detection.spec import FasterRCNN as FasterRCNN
    from keras_senet.detection.spec import Sampling as Sampling
    from keras_senet.detection.torchvision import load_torchvision as load_torchvision
    from keras_senet.detection.trainer import Trainer as Trainer

HOMES = {
    "RECIPES": "recipes",
    "Anchors": "anchors",
    "AveragePrecision": "evaluation",
    "BoxedImages": "data",
    "DetectionBatches": "data",
    "Detections": "detections",
    "Detector": "faster_rcnn",
    "FasterRCNN": "spec",
    "Recipe": "recipe",
    "Sampling": "spec",
    "Trainer": "trainer",
    "Truths": "data",
    "evaluate": "evaluation",
    "load": "files",
    "load_coco": "data",
    "load_data": "data",
    "load_scenes": "data",
    "load_torchvision": "torchvision",
    "losses": "loss",
    "save": "files",
    "write_scenes": "data",
}
__all__ = list(HOMES)
__getattr__ = load_names(__name__, HOMES)
