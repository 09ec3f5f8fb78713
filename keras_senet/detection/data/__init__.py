"""Images with boxes: datasets of them, and training batches."""

from keras_senet.detection.data.batches import DetectionBatches
from keras_senet.detection.data.coco import load_coco
from keras_senet.detection.data.loading import load_data, resolve_split, splits
from keras_senet.detection.data.scenes import load_scenes, write_scenes
from keras_senet.detection.data.truths import BoxedImages, Truth, Truths

__all__ = [
    "BoxedImages",
    "DetectionBatches",
    "Truth",
    "Truths",
    "load_coco",
    "load_data",
    "load_scenes",
    "resolve_split",
    "splits",
    "write_scenes",
]
