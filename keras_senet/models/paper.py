"""The paper's own figures, to compare a network with."""

# GFLOPs of the authors' re-implementation without and with SE blocks: Tables 2 and 3.
GFLOPS = {
    "SEResNet50": (3.86, 3.87),
    "SEResNet101": (7.58, 7.60),
    "SEResNet152": (11.30, 11.32),
    "SEResNeXt50": (4.24, 4.25),
    "SEResNeXt101": (7.99, 8.00),
    "SEVGG16": (15.47, 15.48),
    "SEBNInception": (2.03, 2.04),
    "SEInceptionResNetV2": (
        11.75,
        11.76,
    ),  # of a variant that is not public, see inception_resnet_v2.py
    "SEMobileNet": (0.569, 0.572),
    "SEShuffleNet": (0.140, 0.142),
}
