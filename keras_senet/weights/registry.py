"""The published ImageNet weights, those that are in this package, and what `weights=` accepts."""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_senet.fields import check_argument
from keras_senet.preprocessing import IMAGENET, Preprocessing
from keras_senet.weights.metadata import METADATA, stored_preprocessing
from keras_senet.weights.readers import ENDINGS

RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download/"
HUB = "hf://"
FILES = Path(__file__).with_name("files")  # of results/package_weights.py


@dataclass(frozen=True)
class Checkpoint:
    """One set of published weights, with how it was evaluated.

    model          the constructor's name
    tag            what `weights=` takes
    input_size     height and width in pixels at which top1 and top5 were measured, in percent on
                   ImageNet's validation images, with `crop_fraction` and `interpolation`
    test_size      a larger size at which the same weights do better, as the publishers measured;
                   None where they have not, as are test_crop_fraction, test_top1 and test_top5
    parameters     in millions
    file           below `RELEASES`, or "hf://" and a repository of the Hub that holds
                   `model.safetensors`
    licence        of the weights
    """

    model: str
    tag: str
    input_size: int
    crop_fraction: float
    interpolation: str
    top1: float
    top5: float
    test_size: int | None
    test_crop_fraction: float | None
    test_top1: float | None
    test_top5: float | None
    parameters: float
    file: str
    licence: str = "Apache-2.0"
    says_spec = False  # whether the file says which network it is for

    @property
    def se(self) -> bool:
        """Whether the weights are of the network with its SE blocks."""
        return True

    @property
    def preprocessing(self) -> Preprocessing:
        """What turns images into the network's input, at the size of `top1` and `top5`."""
        return replace(
            IMAGENET,
            size=self.input_size,
            crop_fraction=self.crop_fraction,
            interpolation=self.interpolation,
        )

    @property
    def hub_id(self) -> str | None:
        """The repository on the Hub, or None for a file on a plain host."""
        return self.file.removeprefix(HUB) if self.file.startswith(HUB) else None

    @property
    def url(self) -> str:
        """Where the file itself is."""
        if self.hub_id:
            return f"https://huggingface.co/{self.hub_id}/resolve/main/model.safetensors"
        return RELEASES + self.file

    @property
    def source(self) -> str:
        """Where to read about the weights: the repository's page, or the file's own address."""
        return f"https://huggingface.co/{self.hub_id}" if self.hub_id else self.url

    @property
    def sha256(self) -> str | None:
        """The first digits of the file's SHA-256, from its name; None for those on the Hub."""
        return None if self.hub_id else Path(self.file).stem.rpartition("-")[2]

    @property
    def file_name(self) -> str:
        """What the file is called in the cache."""
        return f"{self.model}-{self.tag}.safetensors" if self.hub_id else Path(self.file).name


@dataclass(frozen=True)
class PackagedWeights(Checkpoint):
    """Weights whose file is in this package: `file` is its name in `FILES`.

    top1 and top5 are in percent on the dataset's test images; `trained` says how they came about.
    """

    trained: str = ""
    says_spec = True

    @property
    def se(self) -> bool:
        return read_packaged(self.path)["spec"]["se"] is not None

    @property
    def path(self) -> Path:
        """The file."""
        return FILES / self.file

    @property
    def preprocessing(self) -> Preprocessing:
        found = stored_preprocessing(read_packaged(self.path))
        assert found is not None
        return found

    @property
    def url(self) -> str:
        return str(self.path)

    @property
    def source(self) -> str:
        """How they were trained."""
        return self.trained

    @property
    def sha256(self) -> None:
        """None: the file comes with the package."""


@functools.cache
def list_packaged() -> tuple[PackagedWeights, ...]:
    """The weights that are in this package, as their files say."""
    return tuple(
        PackagedWeights(**read_packaged(path)["checkpoint"], file=path.name)
        for path in sorted(FILES.glob("*.safetensors"), key=lambda path: path.name)
    )


def read_packaged(path: Path) -> dict[str, Any]:
    """What a `.safetensors` file of this package says, read without the library of that name."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"][METADATA])


# "imagenet" are the authors' own weights (18, 34 and X-26: timm's, in the same form); figures: timm
# 1.0.31, its results-imagenet.csv.
CHECKPOINTS = tuple(
    Checkpoint(*row)
    for row in (
        # model                tag               size crop   resizing    top-1   top-5   larger crop   top-1   top-5   params   file
        ("SEResNet18",          "imagenet",       224, 0.875, "bicubic",  71.742, 90.340, None, None,  None,   None,   11.78,  "v0.1-weights/seresnet18-4bb0ce65.pth"),
        ("SEResNet34",          "imagenet",       224, 0.875, "bilinear", 74.788, 92.134, None, None,  None,   None,   21.96,  "v0.1-weights/seresnet34-a4004e63.pth"),
        ("SEResNet50",          "imagenet",       224, 0.875, "bilinear", 77.650, 93.732, None, None,  None,   None,   28.09,  "v0.1-cadene/se_resnet50-ce0d4300.pth"),
        ("SEResNet50",          "imagenet-a1",    224, 0.95,  "bicubic",  80.012, 94.704, 288,  1.0,   81.114, 95.122, 28.09,  "hf://timm/seresnet50.a1_in1k"),
        ("SEResNet50",          "imagenet-a2",    224, 0.95,  "bicubic",  80.102, 94.720, 288,  1.0,   81.094, 95.230, 28.09,  "hf://timm/seresnet50.a2_in1k"),
        ("SEResNet50",          "imagenet-a3",    160, 0.95,  "bicubic",  75.104, 92.096, 224,  0.95,  77.036, 93.072, 28.09,  "hf://timm/seresnet50.a3_in1k"),
        ("SEResNet50",          "imagenet-ra2",   224, 0.875, "bicubic",  80.260, 95.068, 288,  0.95,  81.288, 95.652, 28.09,  "hf://timm/seresnet50.ra2_in1k"),
        ("SEResNet101",         "imagenet",       224, 0.875, "bilinear", 78.370, 94.264, None, None,  None,   None,   49.33,  "v0.1-cadene/se_resnet101-7e38fcc6.pth"),
        ("SEResNet152",         "imagenet",       224, 0.875, "bilinear", 78.662, 94.370, None, None,  None,   None,   66.82,  "v0.1-cadene/se_resnet152-d17c99b7.pth"),
        ("SEResNet152D",        "imagenet-ra2",   256, 0.95,  "bicubic",  83.702, 96.794, 320,  1.0,   84.344, 97.044, 66.84,  "hf://timm/seresnet152d.ra2_in1k"),
        ("SEResNeXt26",         "imagenet",       224, 0.875, "bicubic",  77.100, 93.332, None, None,  None,   None,   16.79,  "v0.1-weights/seresnext26_32x4d-65ebdb501.pth"),
        ("SEResNeXt26D",        "imagenet-bt",    224, 0.875, "bicubic",  77.592, 93.614, 288,  0.95,  78.816, 94.266, 16.81,  "hf://timm/seresnext26d_32x4d.bt_in1k"),
        ("SEResNeXt26T",        "imagenet-bt",    224, 0.875, "bicubic",  77.980, 93.750, 288,  0.95,  78.736, 94.318, 16.81,  "hf://timm/seresnext26t_32x4d.bt_in1k"),
        ("SEResNeXt50",         "imagenet",       224, 0.875, "bilinear", 79.080, 94.428, None, None,  None,   None,   27.56,  "v0.1-weights/legacy_se_resnext50_32x4d-f3651bad.pth"),
        ("SEResNeXt50",         "imagenet-gluon", 224, 0.875, "bicubic",  79.916, 94.816, None, None,  None,   None,   27.56,  "hf://timm/seresnext50_32x4d.gluon_in1k"),
        ("SEResNeXt50",         "imagenet-racm",  224, 0.875, "bicubic",  81.268, 95.624, 288,  0.95,  82.186, 96.146, 27.56,  "hf://timm/seresnext50_32x4d.racm_in1k"),
        ("SEResNeXt101",        "imagenet",       224, 0.875, "bilinear", 80.274, 95.032, None, None,  None,   None,   48.96,  "v0.1-weights/legacy_se_resnext101_32x4d-37725eac.pth"),
        ("SEResNeXt101",        "imagenet-gluon", 224, 0.875, "bicubic",  80.886, 95.268, None, None,  None,   None,   48.96,  "hf://timm/seresnext101_32x4d.gluon_in1k"),
        ("SEResNeXt101_32x8d",  "imagenet-ah",    224, 0.95,  "bicubic",  83.618, 96.412, 288,  1.0,   84.192, 96.860, 93.57,  "hf://timm/seresnext101_32x8d.ah_in1k"),
        ("SEResNeXt101D_32x8d", "imagenet-ah",    224, 0.95,  "bicubic",  83.702, 96.620, 288,  1.0,   84.380, 96.918, 93.59,  "hf://timm/seresnext101d_32x8d.ah_in1k"),
        ("SEResNeXt101_64x4d",  "imagenet-gluon", 224, 0.875, "bicubic",  80.884, 95.308, None, None,  None,   None,   88.23,  "hf://timm/seresnext101_64x4d.gluon_in1k"),
        ("SENet154",            "imagenet",       224, 0.875, "bilinear", 81.320, 95.502, None, None,  None,   None,   115.09, "v0.1-weights/legacy_senet154-e9eb9fe6.pth"),
        ("SENet154",            "imagenet-gluon", 224, 0.875, "bicubic",  81.258, 95.358, None, None,  None,   None,   115.09, "hf://timm/senet154.gluon_in1k"),
    )
)  # fmt: skip


def list_weights(model: Any = None) -> tuple[Checkpoint, ...]:
    """The weights of a network that have a tag, or of all networks: a tuple of `Checkpoint`.

    Args:
        model: a constructor's name, such as "SEResNet50", or a constructor; None is all.

    Raises:
        ValueError: for the name of no network with published weights.
    """
    there = (*CHECKPOINTS, *list_packaged())
    if model is None:
        return there
    name = _key(model if isinstance(model, str) else getattr(model, "__name__", str(model)))
    found = tuple(checkpoint for checkpoint in there if _key(checkpoint.model) == name)
    if not found:
        models = ", ".join(dict.fromkeys(checkpoint.model for checkpoint in there))
        raise ValueError(
            f"`model` has no published weights; these have: {models}. Received: model={model!r}"
        )
    return found


def _key(name):
    """One spelling for a constructor's name, SEResNet50, and its models' name, se_resnet50."""
    return name.replace("_", "").lower()


def is_published(model_name: str) -> bool:
    """Whether there are ImageNet weights for the network of this name."""
    return any(_key(checkpoint.model) == _key(model_name) for checkpoint in CHECKPOINTS)


def list_tags(model_name: str) -> tuple[str, ...]:
    """What `weights=` takes for the network of this name besides files."""
    return tuple(_list_tagged(model_name))


def _list_tagged(model_name):
    there = [c for c in (*CHECKPOINTS, *list_packaged()) if _key(c.model) == _key(model_name)]
    first = {"imagenet": there[0]} if is_published(model_name) else {}
    return first | {checkpoint.tag: checkpoint for checkpoint in there}


def resolve(weights: Any, model_name: str, *others: str) -> Checkpoint | Path | str:
    """What `weights=` means for a network: a `Checkpoint`, "hf://owner/name", or the `Path` of an
    existing file. `others` are what else the caller accepts, for the message.

    The last two may have "#name" at their end, a part of the file: `split_part` takes it off.
    "imagenet" is the authors' checkpoint, or the network's first where they have published none.

    Raises:
        ValueError: for anything else; it lists what there is.
    """
    tags = _list_tagged(model_name)
    if str(weights) in tags:
        return tags[str(weights)]
    if str(weights).startswith(HUB):
        return str(weights)
    file = f"the path of an existing file ({', '.join(ENDINGS)})"
    accepted = ", ".join([*map(repr, tags), file, "'hf://owner/name'", *others])
    if not tags:
        accepted += f"; there are no published weights for {model_name!r}"
    path, _ = split_part(Path(str(weights)))
    is_file = path.name.endswith(ENDINGS) and path.is_file()
    check_argument("weights", str(weights), is_file, accepted)
    return Path(weights)


def split_part(source: Any) -> tuple[Any, str | None]:
    """(source, name) of "file.pth#name" and "hf://owner/name#name"; the name is None without one"""
    if isinstance(source, Checkpoint) or "#" not in str(source) or Path(source).exists():
        return source, None
    whole, _, part = str(source).rpartition("#")
    return whole if whole.startswith(HUB) else Path(whole), part
