"""Images with boxes: datasets of them, and training batches."""

from keras_senet.detection.data.batches import DetectionBatches
from keras_senet.detection.data.coco import load_coco
from keras_senet.detection.data.loading import load_data, splits
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
    "splits",
    "write_scenes",
]
