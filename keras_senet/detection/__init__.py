"""Faster R-CNN on the feature maps of a network."""

from keras_senet.detection.anchors import Anchors
from keras_senet.detection.faster_rcnn import Detections, Detector, FasterRCNN
from keras_senet.detection.torchvision import load_torchvision

__all__ = ["Anchors", "Detections", "Detector", "FasterRCNN", "load_torchvision"]
