"""Parameters, multiply-adds and shapes, to the digit.

Sources: "prototxt" is the authors' file, "timm" timm 1.0.31, "pytorchcv" 0.0.74, "derived" an analytic count;
where there are several they agree. The numbers are trainable parameters, moving means and variances, multiply-adds of
convolutions and dense layers, and rescaled elements (of which "-" is: no source).
"""

import itertools
from dataclasses import replace

import pytest

import keras_senet
from keras_senet import models, networks
from keras_senet.complexity import COUNTS, Complexity, complexity
from keras_senet.graphs import stage_number
from keras_senet.initializers import shapes_only
from keras_senet.models.units import Bottleneck
from keras_senet.models.vgg import VGG

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
SEBNInception       se     11931622    -           2033239424      -         prototxt
SEInceptionResNetV2 se     64387444    -           13164289376     -         derived: SE on the 40 residual branches
SEVGG16             se     138592560   -           15470490624     13547520  derived: no convolution bias, SE bias
SEMobileNet         se     4718044     -           569220096       -         derived: with SE bias
SEShuffleNet        se     2484533     -           138071088       -         derived: bottleneck of out/4, SE on branch
SEResNet20          se     274847      -           40815200        -         pytorchcv seresnet20_cifar10, derived
SEResNet32          se     470861      -           69128096        -         interpolated between 20, 56 and 110
SEResNet56          se     862889      -           125753888       -         pytorchcv seresnet56_cifar10, derived
SEResNet110         se     1742200     -           252899776       -         derived: PreResNet-110, zero-pad shortcut
SEResNet164         se     1905362     -           244694528       -         derived: stride in the first 1x1
SEWideResNet16x8    se     11049290    -           1548231680      -         derived
SEShakeShake26      se     26392170    -           3777086208      -         derived: one SE per branch
SEShakeEven29       se     35573316    68224       5388390400      2752512   no oracle: test_shake_even_29_by_hand
SEResNet152D        se     66841080    151552      15357157376     -         timm seresnet152d at 256
SEResNeXt26         se     16790280    38528       2472099840      -         timm legacy_seresnext26_32x4d
SEResNeXt26D        se     16809512    38656       2711740416      -         timm seresnext26d_32x4d
SEResNeXt26T        se     16806976    38640       2680129536      -         timm seresnext26t_32x4d
SEResNeXt101_32x8d  se     93569048    202880      16418758656     -         timm seresnext101_32x8d
SEResNeXt101D_32x8d se     93588280    203008      16658399232     -         timm seresnext101d_32x8d
SEResNeXt101_64x4d  se     88232984    202880      15465013248     -         timm seresnext101_64x4d
SEResNet18          plain  11689512    9600        1814073344      0         timm resnet18, pytorchcv, derived
SEResNet34          plain  21797672    -           3663761408      0         timm resnet34, pytorchcv, derived
SEResNet50          plain  25557032    53120       3857973248      0         prototxt less SE, pytorchcv, derived
SEResNet101         plain  44549160    105344      7570194432      0         pytorchcv, derived
SEResNet152         plain  60192808    151424      11282415616     0         pytorchcv, derived
SEResNeXt50         plain  25028904    -           4230479872      0         timm resnext50_32x4d, pytorchcv, derived
SEResNeXt101        plain  44177704    -           7969996800      0         timm resnext101_32x4d, pytorchcv, derived
SENet154            plain  108459944   247552      20681785344     0         prototxt less SE, derived
SEBNInception       plain  11285224    -           2032600064      0         prototxt less SE
SEInceptionResNetV2 plain  55843464    60544       13155794016     0         timm, cadene, pytorchcv, derived
SEVGG16             plain  138361768   -           15470264320     0         pytorchcv, derived
SEMobileNet         plain  4231976     21888       568740352       0         prototxt, timm, pytorchcv, derived
SEShuffleNet        plain  1865728     -           137460672       0         pytorchcv, derived
SEResNet20          plain  272474      -           40813184        0         pytorchcv resnet20_cifar10, derived
SEResNet56          plain  855770      -           125747840       0         pytorchcv resnet56_cifar10, derived
SEResNet110         plain  1727962     -           252887680       0         derived: PreResNet-110, zero-pad shortcut
SEResNet164         plain  1703258     -           244500992       0         derived: resnet-pre-act.lua
SEWideResNet16x8    plain  10961370    -           1548145664      0         pytorchcv, derived
SEShakeShake26      plain  26192922    -           3776892672      0         pytorchcv, derived
SEShakeEven29       plain  34529700    68224       5387358208      0         no oracle: test_shake_even_29_by_hand
"""
ROWS = [line.split(maxsplit=6) for line in GOLDEN.strip().splitlines()]


def build(spec, constructor, size=None, **arguments):
    shape = (size, size, 3) if size else None
    with shapes_only():
        return constructor.variant(spec)(weights=None, input_shape=shape, **arguments)


def count_network(spec, constructor, size=None, **arguments):
    """The `Complexity` of a network, of which two units a stage are built: the rows of the second
    one stand for those of all that follow, which are like it. `test_units_are_alike` counts whole
    networks too.
    """
    depths = getattr(spec, "depths", ())
    if max(depths, default=0) > 2 and type(spec) is not VGG:  # whose stages have no units
        short = replace(spec, depths=tuple(min(depth, 2) for depth in depths))
        return repeat_units(complexity(build(short, constructor, size, **arguments)), depths)
    return complexity(build(spec, constructor, size, **arguments))


def repeat_units(found, depths):
    numbers = sorted({stage_number(row.name) for row in found.layers} - {None})
    times = {
        f"stage{number}_block2": depth - 1
        for number, depth in zip(numbers[-len(depths) :], depths, strict=True)
    }
    rows = []
    for unit, those in itertools.groupby(
        found.layers, lambda row: "_".join(row.name.split("_")[:2])
    ):
        rows += [*those] * times.get(unit, 1)
    return Complexity(*(sum(getattr(row, name) for row in rows) for name in COUNTS), tuple(rows))


STAGE_SHAPES = {  # oracle's stage_shapes_CHW: widths of the stem's pooling and conv2_x .. conv5_x, or of stages 1 .. 3
    "SEResNet18": (64, 64, 128, 256, 512),
    "SEResNet34": (64, 64, 128, 256, 512),
    "SEResNet50": (64, 256, 512, 1024, 2048),
    "SEResNet101": (64, 256, 512, 1024, 2048),
    "SEResNet152": (64, 256, 512, 1024, 2048),
    "SEResNeXt50": (64, 256, 512, 1024, 2048),
    "SEResNeXt101": (64, 256, 512, 1024, 2048),
    "SENet154": (128, 256, 512, 1024, 2048),
    "SEResNet20": (16, 32, 64),
    "SEResNet32": (16, 32, 64),
    "SEResNet56": (16, 32, 64),
    "SEResNet110": (16, 32, 64),
    "SEResNet164": (64, 128, 256),
    "SEWideResNet16x8": (128, 256, 512),
    "SEShakeShake26": (96, 192, 384),
    "SEShakeEven29": (256, 512, 1024),
}


# Every plain network is counted as the one with SE blocks less the blocks; of each family one is built too, and
# the others are slow tests: that nothing else changes is in test_application.py.
BUILT_PLAIN = (
    *("SEResNet50", "SEResNeXt50", "SEBNInception", "SEVGG16", "SEMobileNet", "SEShuffleNet"),
    *("SEResNet20", "SEResNet164", "SEWideResNet16x8", "SEShakeShake26"),
)
COUNTED = [
    pytest.param(row, id=f"{row[0]}-{row[1]}", marks=pytest.mark.slow if slow else ())
    for row in ROWS
    for slow in [row[1] == "plain" and row[0] not in BUILT_PLAIN]
]


@pytest.mark.parametrize("row", COUNTED)
def test_counts_equal_the_oracle(row):
    name, kind, *counts, _source = row
    name, _, size = name.partition("@")
    constructor = getattr(keras_senet, name)
    spec = constructor.spec if kind == "se" else replace(constructor.spec, se=None)
    found = count_network(spec, constructor, int(size or constructor.input_size))
    for count, expected in zip(
        ("parameters", "statistics", "multiply_adds", "rescaled"), counts, strict=True
    ):
        assert expected == "-" or getattr(found, count) == int(expected), count
    if not size:
        check_table(name, kind, found)
    if kind == "se" and not size:
        check_less_blocks(name, found)
    if name in STAGE_SHAPES and not size:
        check_stages(name, found)


@pytest.mark.parametrize(
    ("name", "se"),
    [
        pytest.param(*row[:2], marks=() if row[:2] == ["SEResNet34", "se"] else pytest.mark.slow)
        for row in ROWS
        if "@" not in row[0]
    ],
)
def test_units_are_alike(name, se):
    """What `count_network` makes of two units a stage are the rows of the whole network."""
    constructor = getattr(keras_senet, name)
    spec = constructor.spec if se == "se" else replace(constructor.spec, se=None)
    found, whole = count_network(spec, constructor), complexity(build(spec, constructor))
    assert replace(found, layers=()) == replace(whole, layers=())
    stages = [[(row.name, row.output_shape) for row in each.stages()] for each in (found, whole)]
    assert stages[0] == stages[1]


def check_less_blocks(name, found):
    """The plain network's counts, in the oracle and in `networks.csv`."""
    names = ("parameters", "statistics", "multiply_adds")
    rows = [row for row in found.layers if not row.rescaled]
    counts = [sum(getattr(row, count) for row in rows) for count in names]
    assert len(rows) < len(found.layers)
    table = networks.find_row(name)
    assert (table.plain_parameters, table.plain_multiply_adds) == (counts[0], counts[-1])
    for plain in (row for row in ROWS if row[:2] == [name, "plain"]):
        for count, expected in zip(counts, plain[2:5], strict=True):
            assert expected in ("-", str(count))


def check_stages(name, found):
    """The map at the end of the stem, of ImageNet networks, and of each stage."""
    shapes = [row.output_shape for row in found.stages() if row.name.startswith(("stem", "stage"))]
    sizes = (56, 56, 28, 14, 7) if len(STAGE_SHAPES[name]) == 5 else (32, 16, 8)
    widths = STAGE_SHAPES[name]
    assert shapes[-len(sizes) :] == [(n, n, c) for n, c in zip(sizes, widths, strict=True)]


def check_table(name, kind, found):
    """The row of `networks.csv`, which `python tests/network_table.py` writes."""
    row, constructor = networks.find_row(name), getattr(keras_senet, name)
    if kind == "plain":
        counted = (found.parameters, found.multiply_adds)
        assert (row.plain_parameters, row.plain_multiply_adds) == counted
        return
    own = (
        constructor.input_size,
        constructor.classes,
        len(getattr(constructor.spec, "depths", ())),
    )
    assert (row.input_size, row.classes, row.stages) == own
    assert (row.parameters, row.multiply_adds) == (found.parameters, found.multiply_adds)
    assert row.with_rescaling == found.multiply_adds_with_rescaling


UNCOUNTED = sorted(set(networks.read_table()) - {row[0] for row in ROWS if row[1] == "plain"})


@pytest.mark.slow
@pytest.mark.parametrize("name", UNCOUNTED)
def test_plain_networks_without_an_oracle_are_as_in_the_table(name):
    constructor = getattr(keras_senet, name)
    check_table(name, "plain", complexity(build(replace(constructor.spec, se=None), constructor)))


def test_the_table_has_every_network():
    assert list(networks.read_table()) == models.__all__


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
    ({"position": "conv3x3_linear"}, 25714216, None,   3858130432, 3859510272),
    ({"squeeze": None},            28071976, None,     4269015040, 4274534400),  # Table 16
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "unbiased", "biased", "multiply_adds", "rescaled"), ABLATIONS, ids=str
)
def test_ablations_equal_the_oracle(fields, unbiased, biased, multiply_adds, rescaled):
    constructor = keras_senet.SEResNet50
    for use_bias, parameters in ((False, unbiased), (True, biased)):
        if parameters is None:
            continue
        se = keras_senet.SE(use_bias=use_bias, **fields)
        found = count_network(replace(constructor.spec, se=se), constructor)
        assert found.parameters == parameters
        assert found.parameters_with_statistics == parameters + 53120
        if multiply_adds is not None:
            assert found.multiply_adds == multiply_adds
            assert found.multiply_adds_with_rescaling == rescaled


def test_the_stride_variant_has_equal_parameters_and_other_multiply_adds():
    """torchvision, timm's seresnet50 and pytorchcv's seresnet50b have the stride in the 3x3 convolution."""
    for name, multiply_adds in (
        ("SEResNet50", 4091699200),
        ("SEResNet101", 7806148608),
        ("SEResNet152", 11520204800),
    ):
        constructor = getattr(keras_senet, name)
        found = count_network(replace(constructor.spec, unit=Bottleneck(stride_on=2)), constructor)
        assert found.multiply_adds == multiply_adds


# The variants that the oracle counts too: (network, changed fields, classes, parameters, multiply-adds, entry)
UNBIASED = keras_senet.SE(use_bias=False)
VARIANTS = [
    ("SEResNet50", {"se": UNBIASED}, 1000, 28071976, 3860488192, "SE-ResNet-50 (no SE bias)"),
    ("SEResNet101", {"se": UNBIASED}, 1000, 49292328, 7574937600, "SE-ResNet-101 (no SE bias)"),
    ("SEResNet152", {"se": UNBIASED}, 1000, 66770984, 11288993792, "SE-ResNet-152 (no SE bias)"),
    (
        "SEBNInception",
        {"se": None, "use_bias": True},
        1000,
        11295240,
        2032600064,
        "BN-Inception (conv with bias)",
    ),
    (
        "SEInceptionResNetV2",
        {"se_reductions": True},
        1000,
        65079578,
        13164978144,
        "SE on 40 branches + 2 reductions",
    ),
    (
        "SEVGG16",
        {"use_bias": True},
        1000,
        138596784,
        15470490624,
        "SE-VGG-16-BN (conv bias, SE bias)",
    ),
    (
        "SEVGG16",
        {"use_bias": True, "se": None},
        1000,
        138365992,
        15470264320,
        "VGG-16-BN (conv bias kept)",
    ),
    (
        "SEMobileNet",
        {"gate_first": True},
        1000,
        4718044,
        569220096,
        "SE-MobileNet-1.0-224 (SE bias)",
    ),
    (
        "SEMobileNet",
        {"se": UNBIASED},
        1000,
        4711720,
        569220096,
        "SE-MobileNet-1.0-224 (no SE bias)",
    ),
    (
        "SEShuffleNet",
        {"se": UNBIASED},
        1000,
        2476144,
        138071088,
        "mid=out//4 SE on branch se_bias=False",
    ),
    (
        "SEShuffleNet",
        {"se": keras_senet.SE(position="post")},
        1000,
        2594908,
        138180672,
        "mid=out//4 SE on unit",
    ),
    (
        "SEShuffleNet",
        {"strided_se": False},
        1000,
        2441923,
        138029472,
        "mid=out//4 SE on stride1 se_bias=True",
    ),
    (
        "SEShuffleNet",
        {"narrow": True},
        1000,
        2433539,
        127671720,
        "mid=branch//4 SE on branch se_bias=True",
    ),
    (
        "SEShuffleNet",
        {"narrow": True, "se": None},
        1000,
        1814734,
        127061304,
        "farmingyard prototxt",
    ),
    ("SEResNet20", {}, 100, 280697, 40820960, "CIFAR-100 SE-ResNet-20"),
    ("SEResNet56", {}, 100, 868739, 125759648, "CIFAR-100 SE-ResNet-56"),
    ("SEResNet110", {}, 100, 1748050, 252905536, "CIFAR-100 SE-PreResNet-110 (zero-pad)"),
    (
        "SEResNet110",
        {"shortcut": "conv"},
        10,
        1744760,
        253161920,
        "CIFAR-10 SE-PreResNet-110 (conv shortcut)",
    ),
    (
        "SEResNet110",
        {"shortcut": "conv", "se": None},
        10,
        1730522,
        253149824,
        "CIFAR-10 PreResNet-110 (conv shortcut)",
    ),
    (
        "SEResNet110",
        {"depths": (3, 3, 3)},
        10,
        272095,
        40553056,
        "CIFAR-10 SE-PreResNet-20 (zero-pad)",
    ),
    ("SEResNet164", {}, 100, 1928492, 244717568, "CIFAR-100 SE-PreResNet-164 (first 1x1)"),
    ("SEResNet164", {"stride_on": 2}, 10, 1905362, 247840256, "CIFAR-10 SE-PreResNet-164 (3x3)"),
    ("SEWideResNet16x8", {}, 100, 11095460, 1548277760, "CIFAR-100 SE-WRN-16-8"),
    ("SEShakeShake26", {}, 100, 26426820, 3777120768, "CIFAR-100 SE-Shake-Shake-26 (per branch)"),
    (
        "SEShakeShake26",
        {"mixed_se": True},
        10,
        26292546,
        3776989440,
        "CIFAR-10 SE-Shake-Shake-26 (on the mixed sum)",
    ),
]


@pytest.mark.parametrize(
    ("name", "fields", "classes", "parameters", "multiply_adds", "entry"), VARIANTS, ids=str
)
def test_variants_equal_the_oracle(name, fields, classes, parameters, multiply_adds, entry):
    constructor = getattr(keras_senet, name)
    found = count_network(replace(constructor.spec, **fields), constructor, classes=classes)
    assert (found.parameters, found.multiply_adds) == (parameters, multiply_adds), entry


def test_shake_even_29_by_hand():
    """3x3 convolution of 64; three stages of three units of two branches 1x1, 3x3 in four groups, 1x1; projections.

    Gastaldi, 1705.07485, Table 2 gives 34.4M parameters for the plain network.
    """
    parameters = multiply_adds = se = se_biases = rescaled = 0

    def conv(kernel, inputs, outputs, size, groups=1):
        nonlocal parameters, multiply_adds
        weights = kernel * kernel * inputs // groups * outputs
        parameters += weights + 2 * outputs
        multiply_adds += weights * size * size

    conv(3, 3, 64, 32)
    given = 64
    for width, size in ((256, 32), (512, 16), (1024, 8)):
        for unit in range(3):
            before = 2 * size if unit == 0 and size < 32 else size
            for _branch in range(2):
                conv(1, given, width, before)
                conv(3, width, width, size, groups=4)
                conv(1, width, width, size)
                se += 2 * width * (width // 16)
                rescaled += width * size * size
                se_biases += width // 16 + width
            if unit == 0:
                conv(1, given, width, size)
            given = width
    parameters += 1024 * 100 + 100
    multiply_adds += 1024 * 100
    constructor = keras_senet.SEShakeEven29
    plain = count_network(replace(constructor.spec, se=None), constructor)
    gated = count_network(constructor.spec, constructor)
    assert (plain.parameters, plain.multiply_adds) == (parameters, multiply_adds)
    assert (gated.parameters, gated.multiply_adds) == (
        parameters + se + se_biases,
        multiply_adds + se,
    )
    assert gated.rescaled == rescaled
