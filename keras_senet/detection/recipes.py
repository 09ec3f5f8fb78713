"""The named recipes of detectors, as rows that differ from one another."""

from dataclasses import replace

from keras_senet.detection.anchors import Anchors
from keras_senet.detection.recipe import Recipe
from keras_senet.detection.spec import FasterRCNN

NOT_REPRODUCED = (
    "not reproduced: inclusive boxes, the rounding of anchors, images without boxes left out, the "
    "momentum's rescaling"
)
COCO_1X = Recipe(
    detector=FasterRCNN(train_proposals=(2000, 1000)),
    epochs=12,
    milestones=(8.0, 32 / 3),
    warmup_steps=500,
    warmup_from=1 / 3,
    box_beta=1.0,
    straddling=False,
    bias_rate=2.0,
    bias_decay=False,
    source="Detectron, e2e_faster_rcnn_R-50-FPN_1x: 90,000 steps of 16 images, a tenth of the rate "
    f"after 60,000 and 80,000; {NOT_REPRODUCED}",
)

RECIPES = {
    "scenes": Recipe(
        model="SEResNet18",
        depths=(1, 1, 1, 1),
        backbone_weights=None,
        frozen_stages=0,
        frozen_bn=False,
        detector=FasterRCNN(
            channels=32,
            anchors=Anchors((12, 24, 48, 96, 128)),
            hidden=(128, 128),
            canonical=64.0,
            proposals=(200, 100),
            train_proposals=(200, 200),
            short=112,
            long=192,
        ),
        dataset="scenes",
        flip=False,
        group_by_aspect=False,
        anchor_samples=(64, 0.5),
        box_samples=(64, 0.5),
        epochs=6,
        batch_size=4,
        optimizer="adamw",
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=100,
        bias_decay=False,
        source="ours, for a CPU",
        result="AP 0.542 and 0.442, AP50 0.790 and 0.659 of 100 test scenes with seeds 0 and 1, "
        "320 and 286 CPU seconds (results/scenes)",
    ),
    "coco-1x": COCO_1X,
    "coco-2x": replace(
        COCO_1X,
        epochs=24,
        milestones=(16.0, 64 / 3),
        source="Section 5.3, by Detectron, e2e_faster_rcnn_R-50-FPN_2x: 180,000 steps of 16 "
        f"images, a tenth of the rate after 120,000 and 160,000; {NOT_REPRODUCED}",
    ),
    "coco-3x": replace(
        COCO_1X,
        epochs=36,
        milestones=(28.0, 100 / 3),
        short_sides=(640, 672, 704, 736, 768, 800),
        warmup_steps=1000,
        warmup_from=0.001,
        straddling=True,
        bias_rate=1.0,
        bias_decay=True,
        source="detectron2, faster_rcnn_R_50_FPN_3x: 270,000 steps of 16 images, a tenth of the "
        "rate after 210,000 and 250,000",
    ),
    "voc2007": Recipe(
        detector=FasterRCNN(short=600, long=1000),
        dataset="voc/2007",
        epochs=12,
        milestones=(9.0,),
        learning_rate=0.01,
        warmup_steps=500,
        source="mmdetection, faster_rcnn_r50_fpn_1x_voc0712: 4 epochs of three passes each, here "
        "on VOC 2007",
    ),
    "finetune": Recipe(
        detector=FasterRCNN(short=512, long=832),
        dataset="photos",
        epochs=20,
        batch_size=4,
        learning_rate=0.005,
        schedule="cosine",
        warmup_steps=200,
        clip_norm=10.0,
        source="ours, for images of one's own with boxes: torchvision's numbers, a quarter of the "
        "batch and of the rate",
    ),
}
