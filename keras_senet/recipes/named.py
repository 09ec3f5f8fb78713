"""The named recipes, as rows that differ from one another."""

from dataclasses import replace

from keras_senet.recipes.augmentation import Augmentation
from keras_senet.recipes.recipe import Recipe
from keras_senet.se import SE

CROP_AND_FLIP = Augmentation(min_area=0.08, flip=True)
PAD_AND_FLIP = Augmentation(pad_and_crop=4, flip=True)
# README of the authors' repository, "Remark": rotation within 10 degrees, pixel jitter within 20;
# issue 38 there
AUTHORS = replace(CROP_AND_FLIP, rotation=10.0, pixel_jitter=20.0)

IMAGENET = Recipe(
    model="SEResNet50",
    dataset="imagenet2012",
    normalization="mean",
    epochs=100,
    batch_size=1024,
    learning_rate=0.6,
    schedule="step",
    milestones=(30.0, 60.0, 90.0),
    augmentation=CROP_AND_FLIP,
    source="Section 5 of v4 (v1 to v3 also sample classes equally); weight decay by the authors' "
    "issue 37",
)
# The released models and Section 6 (batch not stated there) have a quarter of the batch
IMAGENET_256 = replace(IMAGENET, batch_size=256, learning_rate=0.1)
PREACT = Recipe(
    model="SEResNet110",
    dataset="cifar10",
    epochs=164,  # 64,000 steps of 128 images
    batch_size=128,
    schedule="step",
    milestones=(32_000 / 390, 48_000 / 390),
    warmup_epochs=400 / 390,
    warmup="constant",
    warmup_rate=0.01,
    augmentation=PAD_AND_FLIP,
    source="Section 5.1, by He et al., arXiv 1603.05027, appendix; 64,000 steps by arXiv "
    "1512.03385",
)
WIDE = replace(
    PREACT,
    model="SEWideResNet16x8",
    epochs=200,
    milestones=(60.0, 120.0, 160.0),
    decay=0.2,
    warmup_epochs=0.0,
    warmup_rate=0.0,
    nesterov=True,
    weight_decay=5e-4,
    source="Section 5.1, by the scripts of Zagoruyko and Komodakis (who pad by reflection; "
    "SENet's text says zeros); batch and weight decay of their paper",
)
SHAKE = Recipe(
    model="SEShakeShake26",
    dataset="cifar10",
    epochs=1800,
    batch_size=128,
    learning_rate=0.2,
    nesterov=True,
    augmentation=replace(PAD_AND_FLIP, cutout=16),
    source="Section 5.1, by the README of Gastaldi's Shake-Shake; Cutout of 16 pixels by DeVries "
    "and Taylor's",
)
SHORT = Recipe(
    dataset="cifar10",
    batch_size=128,
    warmup_epochs=1.0,
    nesterov=True,
    augmentation=PAD_AND_FLIP,
    source="ours, for a CPU: 10 epochs",
    result="17.99% and 18.03% test error with seeds 0 and 1, 2 CPU cores, 20 minutes "
    "(results/cifar10)",
)

FINETUNE = Recipe(
    model="SEResNet18",
    dataset="photos",
    weights="imagenet",
    epochs=6,
    batch_size=32,
    head_epochs=2,
    head_rate=10.0,
    learning_rate=0.01,
    warmup_epochs=1.0,
    nesterov=True,
    label_smoothing=0.1,
    augmentation=replace(CROP_AND_FLIP, min_area=0.35),
    source="ours, for a few hundred photos of one's own, minutes on a CPU",
    result="SEResNet20 with crops after padding, from weights of 77.8% with a new head, on 800 "
    "photos of CIFAR-10's test part: 81.0% of 200 others in 49 s of CPU time; from scratch 28.5%",
)

RECIPES = {
    # keras-senet quickstart
    "digits": Recipe(
        epochs=14,
        warmup_epochs=1.0,
        nesterov=True,
        augmentation=Augmentation(pad_and_crop=3),
        source="ours",
        result="99.44% of 360 test digits with seed 0, 2 CPU cores, 2 minutes",
    ),
    "imagenet": IMAGENET,
    "imagenet-authors": replace(
        IMAGENET_256,
        augmentation=AUTHORS,
        source="README of the authors' repository: the released models; 'more epochs', without a "
        "number: 100 here",
    ),
    "imagenet-ablation": replace(
        IMAGENET_256,
        se=SE(use_bias=False),
        epochs=270,
        milestones=(125.0, 200.0, 250.0),
        label_smoothing=0.1,
        source="Section 6 and its footnote: 270 epochs. Neither batch nor smoothing are stated: "
        "256 and 0.1 here",
    ),
    "imagenet-mobile": replace(
        IMAGENET_256,
        model="SEMobileNet",
        epochs=400,
        milestones=(200.0, 300.0, 350.0),
        weight_decay=4e-5,
        augmentation=replace(CROP_AND_FLIP, min_area=0.25),
        source="Section 5: divided by 10 at plateaus of about 400 epochs, here at fixed ones; "
        "weight decay of v3; 'slightly less aggressive' augmentation, here crops from 25% of the "
        "area",
    ),
    "senet154": replace(
        IMAGENET,
        model="SENet154",
        batch_size=2048,
        learning_rate=1.0,
        label_smoothing=0.1,
        sync_bn=True,
        frozen_bn_epochs=5,
        source="Appendix: batch 2048, rate 1.0, label smoothing, frozen batch normalisation; "
        "smoothing of 0.1 and 5 epochs are ours",
    ),
    "places365": replace(
        IMAGENET,
        model="SEResNet152",
        dataset="places365_small",
        source="Section 5.2: as ImageNet, with more iterations, whose number is not stated",
    ),
    "imagenet-modern": replace(
        IMAGENET,
        normalization="network",
        epochs=300,
        batch_size=2048,
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        milestones=(),
        warmup_epochs=5.0,
        weight_decay=0.02,
        decoupled=True,
        clip_norm=1.0,
        ema=0.9999,
        augmentation=replace(
            CROP_AND_FLIP, mixup=0.1, cutmix=1.0, randaugment=2, randaugment_magnitude=0.7
        ),
        source="after A2 of Wightman et al., arXiv 2110.00476; AdamW for LAMB, softmax for binary "
        "cross-entropy",
    ),
    "finetune": FINETUNE,
    "finetune-modern": replace(
        FINETUNE,
        model="SEResNet50",
        weights="imagenet-ra2",
        epochs=32,
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        layer_decay=0.7,
        weight_decay=0.05,
        decoupled=True,
        clip_norm=1.0,
        ema=0.999,
        augmentation=replace(
            CROP_AND_FLIP, mixup=0.1, cutmix=1.0, randaugment=2, randaugment_magnitude=0.5
        ),
        precision="mixed_float16",
        result="not run",
        source="ours, for thousands of photos and a GPU: rates by layer after BEiT (arXiv "
        "2106.08254), the rest after imagenet-modern",
    ),
    "cifar10": PREACT,
    "cifar10-short": SHORT,
    "cifar10-ablation": replace(
        SHORT,
        depths=(1, 1, 1),
        epochs=5,
        source="ours, for many variants on a CPU: one block per stage, 5 epochs",
        result="30.29% and 29.48% test error with seeds 0 and 1, one CPU core, 5 minutes "
        "(results/ablation)",
    ),
    "cifar10-wide": WIDE,
    "cifar10-shake": SHAKE,
    "cifar100": replace(PREACT, dataset="cifar100", model="SEResNet164"),
    "cifar100-wide": replace(WIDE, dataset="cifar100"),
    "cifar100-shake": replace(
        SHAKE,
        model="SEShakeEven29",
        dataset="cifar100",
        batch_size=32,
        learning_rate=0.025,
        weight_decay=5e-4,
        augmentation=replace(PAD_AND_FLIP, cutout=8),
        source="Section 5.1, by the README of Gastaldi's Shake-Shake (Shake-Even); Cutout of 8 "
        "pixels",
    ),
}
