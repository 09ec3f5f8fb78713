"""Parameters, multiply-adds and shapes, to the digit.

Sources: "prototxt" is the authors' file, "timm" timm 1.0.31, "pytorchcv" 0.0.74, "derived" an analytic count;
where there are several they agree. The numbers are trainable parameters, moving means and variances, multiply-adds of
convolutions and dense layers, and rescaled elements (of which "-" is: no source).
"""

from dataclasses import replace

import pytest

import keras_senet
from keras_senet.analysis import complexity

# network           se     parameters  statistics  multiply-adds   rescaled  source
GOLDEN = """
SEResNet18          se     11778592    9600        1814160384      752640    timm legacy_seresnet18, pytorchcv, derived
SEResNet34          se     21958868    -           3663918592      -         timm legacy_seresnet34, pytorchcv, derived
SEResNet50          se     28088024    53120       3860488192      5519360   prototxt, timm legacy_seresnet50, pytorchcv
SEResNet101         se     49326872    105344      7574937600      -         prototxt, timm legacy_seresnet101, pytorchcv
SEResNet152         se     66821848    151424      11288993792     -         prototxt, timm legacy_seresnet152, pytorchcv
SEResNeXt50         se     27559896    -           4232994816      -         prototxt, timm legacy_seresnext50_32x4d
SEResNeXt101        se     48955416    -           7974739968      -         prototxt, timm legacy_seresnext101_32x4d
SENet154            se     115088984   247552      20688363520     13146112  prototxt, timm legacy_senet154, pytorchcv
SENet154@320        se     115088984   247552      42212171776     -         timm legacy_senet154, derived
SEResNet20          se     274847      -           40815200        -         pytorchcv seresnet20_cifar10, derived
SEResNet32          se     470861      -           69128096        -         interpolated between 20, 56 and 110
SEResNet56          se     862889      -           125753888       -         pytorchcv seresnet56_cifar10, derived
SEResNet18          plain  11689512    9600        1814073344      0         timm resnet18, pytorchcv, derived
SEResNet34          plain  21797672    -           3663761408      0         timm resnet34, pytorchcv, derived
SEResNet50          plain  25557032    53120       3857973248      0         prototxt less SE, pytorchcv, derived
SEResNet101         plain  44549160    105344      7570194432      0         pytorchcv, derived
SEResNet152         plain  60192808    151424      11282415616     0         pytorchcv, derived
SEResNeXt50         plain  25028904    -           4230479872      0         timm resnext50_32x4d, pytorchcv, derived
SEResNeXt101        plain  44177704    -           7969996800      0         timm resnext101_32x4d, pytorchcv, derived
SENet154            plain  108459944   247552      20681785344     0         prototxt less SE, derived
SEResNet20          plain  272474      -           40813184        0         pytorchcv resnet20_cifar10, derived
SEResNet56          plain  855770      -           125747840       0         pytorchcv resnet56_cifar10, derived
"""
ROWS = [line.split(maxsplit=6) for line in GOLDEN.strip().splitlines()]


def build(spec, constructor, size=None, **arguments):
    name, size = "variant", size or constructor.input_size
    application = keras_senet.application(spec, name=name, input_size=size, classes=constructor.classes)
    return application(weights=None, **arguments)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_counts_equal_the_oracle(row):
    name, kind, *counts, _source = row
    name, _, size = name.partition("@")
    constructor = getattr(keras_senet, name)
    spec = constructor.spec if kind == "se" else replace(constructor.spec, se=None)
    found = complexity(build(spec, constructor, int(size or constructor.input_size)))
    for count, expected in zip(("parameters", "statistics", "multiply_adds", "rescaled"), counts, strict=True):
        assert expected == "-" or getattr(found, count) == int(expected), count


# The paper's tables 10, 13, 14, 15 and 16 on SE-ResNet-50: `se` fields, trainable parameters without and with biases
# (derived), multiply-adds, and those with one for each rescaled element (derived).
ABLATIONS = [
    # SE(...)                      no bias   with bias  multiply-adds  with rescaling
    ({"reduction": 2},             45676584, 45699240, None,       None),  # Table 10
    ({"reduction": 4},             35616808, 35635688, None,       None),
    ({"reduction": 8},             30586920, 30603912, None,       None),
    ({"reduction": 16},            28071976, 28088024, 3860488192, 3866007552),
    ({"reduction": 32},            26814504, 26830080, None,       None),
    ({"squeeze": "max"},           28071976, 28088024, 3860488192, 3866007552),  # Table 11
    ({"gate": "tanh"},             28071976, 28088024, 3860488192, 3866007552),  # Table 12
    ({"stages": (2,)},             25581608, None,     3857997824, 3860406272),  # Table 13
    ({"stages": (3,)},             25688104, None,     3858104320, 3859709952),
    ({"stages": (4,)},             26343464, None,     3858759680, 3859963904),
    ({"stages": (5,)},             27129896, None,     3859546112, 3859847168),  # not in the paper
    ({"stages": (2, 3, 4)},        26499112, None,     3858915328, 3864133632),  # "the final stage removed"
    ({"position": "pre"},          27548200, None,     3859964416, 3865584128),  # Table 14
    ({"position": "post"},         28071976, None,     3860488192, 3866007552),
    ({"position": "identity"},     28071976, None,     3860488192, 3866007552),
    ({"position": "conv3x3"},      25714216, None,     3858130432, 3859510272),  # Table 15
    ({"squeeze": None},            28071976, None,     4269015040, 4274534400),  # Table 16
]  # fmt: skip


@pytest.mark.parametrize(("fields", "unbiased", "biased", "multiply_adds", "rescaled"), ABLATIONS, ids=str)
def test_ablations_equal_the_oracle(fields, unbiased, biased, multiply_adds, rescaled):
    constructor = keras_senet.SEResNet50
    for use_bias, parameters in ((False, unbiased), (True, biased)):
        if parameters is None:
            continue
        found = complexity(
            build(replace(constructor.spec, se=keras_senet.SE(use_bias=use_bias, **fields)), constructor)
        )
        assert found.parameters == parameters
        assert found.parameters_with_statistics == parameters + 53120
        if multiply_adds is not None:
            assert found.multiply_adds == multiply_adds
            assert found.multiply_adds_with_rescaling == rescaled


def test_the_stride_variant_has_equal_parameters_and_other_multiply_adds():
    """torchvision, timm's seresnet50 and pytorchcv's seresnet50b have the stride in the 3x3 convolution."""
    for name, multiply_adds in (("SEResNet50", 4091699200), ("SEResNet101", 7806148608), ("SEResNet152", 11520204800)):
        constructor = getattr(keras_senet, name)
        found = complexity(build(replace(constructor.spec, stride_on=2), constructor))
        assert found.multiply_adds == multiply_adds


IMAGENET = {"stem_relu": 112, "stem_pool": 56, "stage2": 56, "stage3": 28, "stage4": 14, "stage5": 7}
STAGE_SHAPES = {  # oracle's stage_shapes_CHW: widths in the order of IMAGENET, or of stages 1, 2, 3 at 32, 16, 8
    "SEResNet18": (64, 64, 64, 128, 256, 512),
    "SEResNet34": (64, 64, 64, 128, 256, 512),
    "SEResNet50": (64, 64, 256, 512, 1024, 2048),
    "SEResNet101": (64, 64, 256, 512, 1024, 2048),
    "SEResNet152": (64, 64, 256, 512, 1024, 2048),
    "SEResNeXt50": (64, 64, 256, 512, 1024, 2048),
    "SEResNeXt101": (64, 64, 256, 512, 1024, 2048),
    "SENet154": (128, 128, 256, 512, 1024, 2048),
    "SEResNet20": (16, 32, 64),
    "SEResNet32": (16, 32, 64),
    "SEResNet56": (16, 32, 64),
}


@pytest.mark.parametrize("name", STAGE_SHAPES)
def test_stage_shapes(name):
    constructor = getattr(keras_senet, name)
    model = constructor(weights=None)
    small = constructor.input_size == 32
    sizes = {"stage1": 32, "stage2": 16, "stage3": 8} if small else IMAGENET
    for (stage, size), width in zip(sizes.items(), STAGE_SHAPES[name], strict=True):
        wanted = f"{stage.partition('_')[0]}_"
        ending = "_relu" if stage != "stem_pool" else "_pool"
        last = [layer for layer in model.layers if layer.name.startswith(wanted) and layer.name.endswith(ending)][-1]
        assert tuple(last.output.shape) == (None, size, size, width)
