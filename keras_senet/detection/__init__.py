"""Faster R-CNN on the feature maps of a network."""

from keras_senet.detection.anchors import Anchors
from keras_senet.detection.data import (
    BoxedImages,
    DetectionBatches,
    Truths,
    load_coco,
    load_data,
    load_scenes,
    write_scenes,
)
from keras_senet.detection.evaluation import AveragePrecision, evaluate
from keras_senet.detection.faster_rcnn import Detections, Detector, FasterRCNN
from keras_senet.detection.files import load, save
from keras_senet.detection.losses import Sampling, losses
from keras_senet.detection.torchvision import load_torchvision

__all__ = [
    "Anchors",
    "AveragePrecision",
    "BoxedImages",
    "DetectionBatches",
    "Detections",
    "Detector",
    "FasterRCNN",
    "Sampling",
    "Truths",
    "evaluate",
    "load",
    "load_coco",
    "load_data",
    "load_scenes",
    "load_torchvision",
    "losses",
    "save",
    "write_scenes",
]
