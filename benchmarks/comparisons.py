"""The comparisons, as data: `COMPARISONS[name]`.

The first subject of a case, and the first of its plain ones, is what the others are compared with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is measured, in a process of its own.

    name         in the tables
    prepare      ".module:function" of this package, which returns the function to time
    arguments    of it, besides those of the setting
    imports      modules whose memory is not counted in `after_imports_mib`
    plain        whether its network has no SE blocks
    environment  variables of its process
    hidden       modules that its process does not find, which others would import by the way
    """

    name: str
    prepare: str
    arguments: Setting = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    plain: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    def renamed(self, name):
        return replace(self, name=name)


@dataclass(frozen=True)
class Case:
    """Subjects whose rounds alternate, in each of the settings.

    network   what is compared, in the tables
    settings  arguments of `prepare`, from small to large: the peak of memory only grows
    quick     settings in their place that take little time
    """

    network: str
    subjects: tuple[Subject, ...]
    settings: tuple[Setting, ...]
    quick: tuple[Setting, ...]


@dataclass(frozen=True)
class Comparison:
    """What `python -m benchmarks NAME` runs.

    measured  a sentence about it
    cases     a function that makes them
    axis      the name in the settings that the picture has on its horizontal axis: lines, not bars
    value     the column that is compared and drawn
    warm_up   calls before the first round: the first one traces or compiles
    seconds   the least that a round takes, by repeated calls
    at_once   whether the subjects prepare at once: not on a GPU, where they choose kernels by time
    """

    name: str
    measured: str
    cases: Callable[[], list[Case]]
    axis: str | None = None
    value: str = "median_ms"
    rounds: int = 5
    warm_up: int = 2
    seconds: float = 0.5
    at_once: bool = True


LEGACY = {"TF_USE_LEGACY_KERAS": "1"}
TF = ("tensorflow",)


def ours(name, label="keras_senet", plain=False, environment=None):
    arguments = {"source": "keras_senet", "name": name, "plain": plain}
    label = f"{label}, plain" if plain else label
    imports = ("keras_senet",)
    return Subject(label, ".networks:prepare", arguments, imports, plain, environment or {})


def keras_peer(source, name, *imports, plain=False, environment=None):
    label = f"{source.replace('_', '.' if 'app' in source else '_')} {name}"
    arguments = {"source": source, "name": name}
    return Subject(label, ".networks:prepare", arguments, imports, plain, environment or {})


def torch_peer(name, how="channels_last", plain=False):
    """`how`: "eager" in torch's own layout, "channels_last", or "torch.compile" of that."""
    arguments = {"name": name, "compiled": how == "torch.compile"}
    arguments["layout"] = "contiguous_format" if how == "eager" else "channels_last"
    imports = ("benchmarks.torch_networks",)
    label = f"{library_of(name)} {name}, {how}"
    return Subject(label, ".torch_networks:prepare", arguments, imports, plain)


def library_of(name):
    return "PyTorch" if name == "se_resnet20" else "timm"


def torch_peers(name):
    return tuple(torch_peer(name, how) for how in ("channels_last", "eager", "torch.compile"))


def tf2cv(name, plain=False):
    return keras_peer("tf2cv", name, *TF, "tf2cv", plain=plain, environment=LEGACY)


def classification_models(name):
    imports = (*TF, "classification_models.tfkeras")
    return keras_peer("classification_models", name, *imports, environment=LEGACY)


def applications(name):
    return keras_peer("keras_applications", name, "keras", *TF, plain=True)


# Our network: the batch of a training step, the size of images, and groups of peers. The processes
# of a group live at the same time: five of the largest fit into 16 GiB.
NETWORKS: dict[str, tuple[int, int, dict[str, tuple[Subject, ...]]]] = {
    "SEResNet50": (
        *(16, 224),
        {
            "": torch_peers("legacy_seresnet50"),
            "plain": (
                torch_peer("resnet50", plain=True),
                applications("ResNet50"),
                keras_peer("keras_hub", "ResNet50", "keras_hub", plain=True),
            ),
            "tf-keras": (tf2cv("seresnet50"), classification_models("seresnet50")),
        },
    ),
    "SEResNeXt50": (
        *(16, 224),
        {
            "": torch_peers("legacy_seresnext50_32x4d"),
            "plain": (torch_peer("resnext50_32x4d", plain=True),),
            "tf-keras": (tf2cv("seresnext50_32x4d"), classification_models("seresnext50")),
        },
    ),
    "SENet154": (
        *(4, 224),
        {
            "": torch_peers("legacy_senet154"),
            "plain": (),
            "tf-keras": (tf2cv("senet154"), classification_models("senet154")),
        },
    ),
    "SEMobileNet": (
        *(16, 224),
        {
            "plain": (torch_peer("mobilenetv1_100", plain=True), applications("MobileNet")),
            "tf-keras": (tf2cv("mobilenet_w1", plain=True),),
        },
    ),
    "SEShuffleNet": (
        *(16, 224),
        {"plain": (), "tf-keras": (tf2cv("shufflenet_g3_w1", plain=True),)},
    ),
    "SEResNet20": (
        *(128, 32),
        {
            "": torch_peers("se_resnet20"),
            "plain": (),
            "tf-keras": (tf2cv("seresnet20_cifar10"), tf2cv("resnet20_cifar10", plain=True)),
        },
    ),
}
QUICK = {"batch": 2, "size": 32}


def with_mode(subjects, mode):
    return tuple(replace(s, arguments={**s.arguments, "mode": mode}) for s in subjects)


def side_by_side(mode, batches=None):
    """A case for each network and group of its peers, with our network and, where a peer has no SE
    blocks, our plain one.
    """
    cases = []
    for name, (batch, size, groups) in NETWORKS.items():
        settings = tuple({"batch": each, "size": size} for each in batches or [batch])
        for group, peers in groups.items():
            own = [ours(name)]
            if group == "plain" or any(peer.plain for peer in peers):
                own.append(ours(name, plain=True))
            subjects = with_mode((*own, *peers), mode)
            label = f"{name}, {group}" if group else name
            cases.append(Case(label, subjects, settings, (QUICK,)))
    return cases


def growing(name, mode, settings):
    """A network beside its plain counterpart and timm's, in several settings."""
    peer = NETWORKS[name][2][""][0]
    subjects = with_mode((ours(name), ours(name, plain=True), peer), mode)
    return Case(name, subjects, settings, ({"batch": 1, "size": 32}, QUICK))


def by_size():
    settings = tuple({"batch": 1, "size": size} for size in (96, 128, 160, 192, 224, 288))
    return [growing("SEResNet50", "inference", settings)]


def by_batch(mode, batches):
    settings = tuple({"batch": batch, "size": 224} for batch in batches)
    return [growing("SEResNet50", mode, settings)]


def by_depth():
    peer = torch_peer("legacy_seresnet{}").renamed("timm legacy_seresnet, channels_last")
    subjects = ours("SEResNet{}"), ours("SEResNet{}", plain=True), peer
    settings = tuple({"batch": 1, "size": 224, "depth": n} for n in (18, 34, 50, 101, 152))
    quick = ({**QUICK, "depth": 18},)
    return [Case("SEResNet", with_mode(subjects, "inference"), settings, quick)]


# our network, timm's
EXPORTED = {
    "SEResNet50": "legacy_seresnet50",
    "SEResNeXt50": "legacy_seresnext50_32x4d",
    "SENet154": "legacy_senet154",
    "SEMobileNet": None,
    "SEShuffleNet": None,
    "SEResNet20": "se_resnet20",
}
RUNTIMES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT", "openvino": "OpenVINO"}


def exported(runtime, name, library="keras_senet", plain=False, **options):
    arguments = {"runtime": runtime, "name": name, "plain": plain, **options}
    notes = [library, "plain" if plain else None, options.get("quantization")]
    label = ", ".join(filter(None, (RUNTIMES[runtime], *notes)))
    return Subject(label, ".exported:prepare", arguments, plain=plain)


def exported_files():
    cases = []
    for name, peer in EXPORTED.items():
        subjects = [exported(runtime, name) for runtime in RUNTIMES]
        subjects += [exported(runtime, name, plain=True) for runtime in RUNTIMES]
        for runtime in ("onnxruntime", "openvino") if peer else ():
            library = library_of(peer)
            subjects.append(exported(runtime, peer, library, writer="write_timm", layout="nchw"))
        size = NETWORKS[name][1]
        settings = tuple({"batch": batch, "size": size} for batch in (1, 16))
        cases.append(Case(name, tuple(subjects), settings, ({"batch": 1, "size": 32},)))
    return cases


def quantized_files():
    """8 bits beside float32."""
    cases = []
    for name in ("SEResNet50", "SEMobileNet", "SEResNet20"):
        subjects = tuple(
            exported(runtime, name, **options)
            for runtime in ("litert", "onnxruntime")
            for options in ({}, {"quantization": "int8"})
        )
        settings = ({"batch": 1, "size": NETWORKS[name][1]},)
        cases.append(Case(name, subjects, settings, ({"batch": 1, "size": 32},)))
    return cases


def export_times():
    cases = []
    for name in NETWORKS:
        subjects = []
        for kind in ("onnx", "tflite", "saved_model"):
            arguments = {"source": "keras_senet", "name": name, "kind": kind}
            subjects.append(Subject(f"keras_senet, {kind}", ".exported:prepare_export", arguments))
        if name == "SEResNet50":
            peer = {"source": "keras.applications", "name": "ResNet50"}
            label = "keras.applications ResNet50, onnx"
            subjects.append(Subject(label, ".exported:prepare_export", peer, plain=True))
        if EXPORTED[name]:
            peer = {"source": "timm", "name": EXPORTED[name]}
            label = "PyTorch's exporter, onnx"
            subjects.append(Subject(label, ".exported:prepare_export", peer))
        settings = ({"size": NETWORKS[name][1]},)
        cases.append(Case(name, tuple(subjects), settings, ({"size": 32},)))
    return cases


# our network, its peers in keras.applications and PyTorch
FIRST = {
    "SEResNet50": {"keras.applications": "ResNet50", "timm": "legacy_seresnet50"},
    "SEMobileNet": {"keras.applications": "MobileNet", "timm": "mobilenetv1_100"},
    "SEResNet20": {"timm": "se_resnet20"},
}


def first_predictions():
    cases = []
    for name, peers in FIRST.items():
        labels = {
            "keras_senet": "import keras_senet, build, predict",
            "build": "import keras_senet, build",
            "--workdir": "keras-senet predict --workdir",
            ".weights.h5": "keras-senet predict --model FILE.weights.h5",
            ".onnx": "keras-senet predict --model FILE.onnx",
            ".tflite": "keras-senet predict --model FILE.tflite",
        }
        for key, peer in peers.items():
            library = library_of(peer) if key == "timm" else key
            labels[key] = f"{library} {peer}: import, build, predict"
        subjects = tuple(
            Subject(
                label, ".first_prediction:prepare", {"command": key, "name": peers.get(key, name)}
            )
            for key, label in labels.items()
        )
        setting = {"size": NETWORKS[name][1]}
        cases.append(Case(name, subjects, (setting,), (setting,)))
    return cases


def pipelines():
    subjects = tuple(
        Subject(name, ".pipeline:prepare", {"side": side}, imports)
        for name, side, imports in (
            ("keras_senet.data", "keras_senet", ("keras_senet",)),
            ("torchvision, DataLoader", "torchvision", ("benchmarks.torch_networks",)),
        )
    )
    settings = tuple({"batch": 64, "size": 224, "dtype": d} for d in ("float32", "uint8"))
    quick = {"batch": 8, "size": 32, "dtype": "uint8", "passes": 1}
    return [Case("ImageNet's JPEGs", subjects, settings, (quick,))]


def throughputs():
    subjects = tuple(
        Subject(name, ".throughput:prepare", {"side": side}, imports, False, environment)
        for name, side, imports, environment in (
            ("keras_senet, TensorFlow, device", "device", ("keras_senet",), {}),
            ("keras_senet, TensorFlow, tf.data", "tf.data", ("keras_senet",), {}),
            ("keras_senet, JAX, device", "device", ("keras_senet",), {"KERAS_BACKEND": "jax"}),
            ("PyTorch, DataLoader", "torch", ("benchmarks.torch_networks",), {}),
        )
    )
    return [Case("SEResNet20", subjects, ({"batch": 128},), ({"batch": 8},))]


# CPUs without AVX-512 are imitated by newer ones
ONEDNN = {
    "oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "ALL"},
    "oneDNN with AVX2": {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "no oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}


def with_onednn(mode):
    cases = []
    for name in ("SEResNet50", "SEResNeXt50", "SEMobileNet"):
        subjects = [ours(name, label, environment=given) for label, given in ONEDNN.items()]
        settings = tuple({"batch": batch, "size": 224} for batch in (1, 2, 16))
        cases.append(Case(name, with_mode(subjects, mode), settings, (QUICK,)))
    return cases


def layers():
    """Our layers beside those of Keras, from which they derive."""
    normalized = (
        ours("SEResNet50"),
        replace(
            ours("SEResNet50", "keras_senet with keras.layers.BatchNormalization"),
            arguments={"source": "keras_batch_normalization", "name": "SEResNet50"},
        ),
    )
    grouped = tuple(
        keras_peer("keras_layer", name, "keras_senet") for name in ("GroupedConv2D", "Conv2D")
    )
    return [
        Case(f"{what}, {mode}", with_mode(subjects, mode), (setting,), (QUICK,))
        for what, subjects, setting, modes in (
            ("BatchNormalization", normalized, {"batch": 16, "size": 224}, MODES),
            ("32 groups", grouped, {"batch": 8, "size": 56}, MODES[:1]),
        )
        for mode in modes
    ]


MODES = ("training", "inference")


def weights_files():
    from benchmarks.load_weights import FILES

    subjects = [
        Subject(
            f"keras_senet, {file}",
            ".load_weights:prepare",
            {"source": "keras_senet", "file": file},
            ("keras_senet",),
        )
        for file in FILES
    ]
    arguments = {"source": "timm", "file": FILES[0]}
    imports = ("benchmarks.torch_networks",)
    subjects.append(Subject(f"timm, {FILES[0]}", ".load_weights:prepare", arguments, imports))
    return [Case("SENet154", tuple(subjects), ({},), ({},))]


GPU = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def on_gpu():
    cases = []
    for name, peer in (
        ("SEResNet50", "seresnet50"),
        ("SEResNeXt50", "seresnext50_32x4d"),
    ):
        subjects = []
        for plain in (False, True):
            arguments = {"name": name, "plain": plain}
            label = f"keras_senet on JAX{', plain' * plain}"
            subjects.append(Subject(label, ".gpu:prepare_ours", arguments, ("jax",), plain, GPU))
        for compiled in (True, False):
            arguments = {"name": peer, "compiled": compiled}
            label = f"timm {peer}, {'torch.compile' if compiled else 'eager'}"
            subjects.append(Subject(label, ".gpu:prepare_peer", arguments, ("torch",)))
        for mode in MODES:
            setting = {"batch": 256, "size": 224}
            made = with_mode(subjects, mode)
            cases.append(Case(f"{name}, {mode}", made, (setting,), (QUICK,)))
    return cases


def detectors():
    # TensorFlow and Keras import these where they are; the extra `detection` does not install them
    hidden = "jax", "IPython", "matplotlib"
    subjects = tuple(
        Subject(name, ".detection:prepare", {"side": side}, imports, hidden=hidden)
        for name, side, imports in (
            ("keras_senet", "keras_senet", ("keras_senet",)),
            ("torchvision, channels_last", "channels_last", ("torchvision",)),
            ("torchvision", "contiguous_format", ("torchvision",)),
        )
    )
    modes = ("training", "detection", "network")
    settings = [({"mode": mode},) for mode in modes]
    return [Case("Faster R-CNN, ResNet-50", subjects, each, each) for each in settings]


COMPARISONS = {
    each.name: each
    for each in (
        Comparison(
            "training",
            "one training step (forward, backward, update) of random images in memory, float32",
            lambda: side_by_side("training"),
        ),
        Comparison(
            "inference",
            "inference of a batch of 1 and of 16, float32",
            lambda: side_by_side("inference", (1, 16)),
        ),
        Comparison(
            "exported",
            "inference by exported files of float32 in their runtimes, a batch of 1 and of 16",
            exported_files,
        ),
        Comparison(
            "int8", "exported files of 8 bits beside float32, a batch of 1", quantized_files
        ),
        Comparison(
            "first-prediction",
            "a new process: import, build or open, and a first prediction",
            first_predictions,
            warm_up=1,
            seconds=0,
        ),
        Comparison(
            "export-time",
            "exporting; ours includes running the file and comparing it with the network",
            export_times,
            rounds=3,
            warm_up=1,
            seconds=0,
        ),
        Comparison(
            "memory",
            "peak memory of a process that trains, by batch",
            lambda: by_batch("training", (4, 8, 16, 32)),
            axis="batch",
            value="peak_mib",
            rounds=2,
            seconds=0,
        ),
        Comparison("size", "inference of one image, by its size", by_size, axis="size"),
        Comparison(
            "batch",
            "inference by batch",
            lambda: by_batch("inference", (1, 2, 4, 8, 16, 32)),
            axis="batch",
        ),
        Comparison("depth", "inference of one image, by depth", by_depth, axis="depth"),
        Comparison(
            "pipeline",
            "a training batch from JPEGs: random-size crop, flip, normalisation",
            pipelines,
            warm_up=1,
            seconds=0,
        ),
        Comparison(
            "throughput",
            "a training step with its data pipeline, random images of 32x32",
            throughputs,
        ),
        Comparison(
            "onednn-inference",
            "inference of keras_senet by setting of oneDNN",
            lambda: with_onednn("inference"),
            rounds=3,
        ),
        Comparison(
            "onednn-training",
            "a training step of keras_senet by setting of oneDNN",
            lambda: with_onednn("training"),
            rounds=3,
        ),
        Comparison("layers", "our layers beside those of Keras in their place", layers),
        Comparison(
            "load-weights", "SENet-154 from files of 440 MiB", weights_files, warm_up=1, seconds=0
        ),
        Comparison(
            "detection",
            "a training step of two images, a detection, and its maps only, at 512x512",
            detectors,
            seconds=0,
        ),
        Comparison(
            "gpu",
            "8 training steps or inferences on one GPU, bfloat16; ms of one",
            on_gpu,
            value="minimum_ms",
            seconds=0,
            at_once=False,
        ),
    )
}
