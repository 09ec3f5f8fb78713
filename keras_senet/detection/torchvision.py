"""Weights of torchvision's detectors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from keras_senet.detection.faster_rcnn import Detector, FasterRCNN
from keras_senet.models import SEResNet50
from keras_senet.models.resnet import ResNet
from keras_senet.models.units import Bottleneck, Stem
from keras_senet.weights.names import Entries, Naming, from_torch
from keras_senet.weights.readers import open_file

BODY = "backbone.body."
RESNET50 = ResNet((3, 4, 6, 3), Bottleneck(stride_on=2), Stem(pool="padded"), se=None)
# COCO's 80 categories in the places of their numbers, 1 to 90, of which ten do not exist.
COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "", "backpack"),
    *("umbrella", "", "", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard"),
    *("sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),
    *("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut"),
    *("cake", "chair", "couch", "potted plant", "bed", "", "dining table", "", "", "toilet", ""),
    *("tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven"),
    *("toaster", "sink", "refrigerator", "", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
# Published files have the older names, without the last number.
TORCHVISION = Naming(
    layers=(
        *((rf"backbone\.fpn\.inner_blocks\.{i}(?:\.0)?", f"lateral{i + 2}") for i in range(4)),
        *((rf"backbone\.fpn\.layer_blocks\.{i}(?:\.0)?", f"pyramid{i + 2}") for i in range(4)),
        (r"rpn\.head\.conv(?:\.0\.0)?", "rpn_conv"),
        (r"rpn\.head\.cls_logits", "rpn_objectness"),
        (r"rpn\.head\.bbox_pred", "rpn_deltas"),
        (r"roi_heads\.box_head\.(fc[67])", r"box_\1"),
        (r"roi_heads\.box_predictor\.cls_score", "box_classes"),
        (r"roi_heads\.box_predictor\.bbox_pred", "box_deltas"),
    ),
    blocks=(r"^$", ""),
    marks=("backbone.fpn.", "rpn.head.", "roi_heads."),
)


def load_torchvision(path: str | Path, class_names: Sequence[str] = COCO) -> Detector:
    """The plain ResNet-50 detector of a file of torchvision's `fasterrcnn_resnet50_fpn` (`.pth`).

    Its outputs equal torchvision's. The published file was trained with an epsilon of 0 in batch
    normalisation, as torchvision sets it after loading.

    Args:
        path: of the file, such as `fasterrcnn_resnet50_fpn_coco-258fb6c6.pth`.
        class_names: of its classes without the background; those that are "" are never detected.

    Raises:
        ValueError: if the file is damaged, or has other weights.
        OSError: if it cannot be read.
    """
    constructor = SEResNet50.variant(RESNET50, name="resnet50")
    with open_file(path, marks=[TORCHVISION.marks]) as file:
        backbone = constructor(include_top=False, weights=None, input_shape=(None, None, 3))
        # torchvision's normalises images of 0..1
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        scaled = {"mean": tuple(255 * m for m in mean), "std": tuple(255 * s for s in std)}
        backbone.preprocessing = replace(backbone.preprocessing, **scaled)
        detector = FasterRCNN()(backbone, class_names)
        assign(detector, file.entries, epsilon_of_zero=True)
    return detector


def assign(detector: Detector, entries: Entries, *, epsilon_of_zero: bool) -> None:
    """Gives a detector on a ResNet the weights of one of torchvision's, by their names there.

    `epsilon_of_zero` is for files that were trained with an epsilon of 0 in batch normalisation, as
    the published `fasterrcnn_resnet50_fpn`: ours is subtracted from the variances.

    Raises:
        ValueError: if the file has other weights than the detector.
    """
    entries = _translate(detector, entries)
    for name, entry in entries.items() if epsilon_of_zero else ():
        if name.endswith("moving_variance"):
            epsilon = detector.proposer.get_layer(name.rpartition("/")[0]).epsilon
            entries[name] = entry.apply(lambda array, epsilon=epsilon: array - epsilon)
    detector.assign(entries)


def _translate(detector, entries):
    """Entries by the names here, in Keras' layout."""
    body = {
        name.removeprefix(BODY): entry for name, entry in entries.items() if name.startswith(BODY)
    }
    others = {name: entry for name, entry in entries.items() if not name.startswith(BODY)}
    named = from_torch(body, detector.backbone.spec.namings["timm"])
    named |= from_torch(others, TORCHVISION)
    if kernel := named.get("box_fc6/kernel"):
        # Rows are of the flattened (C, H, W), here of (H, W, C)
        side, channels = detector.spec.pool_side, detector.spec.channels
        named["box_fc6/kernel"] = kernel.apply(
            lambda array: (
                array.reshape(channels, side, side, -1).transpose(1, 2, 0, 3).reshape(array.shape)
            )
        )
    return named
