"""What the options of every format share, the arguments beside them, and the way to a file."""

import logging
import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import keras

from keras_senet.fields import check_argument, check_choice, check_flag
from keras_senet.graphs import flat_layers
from keras_senet.preprocessing import Preprocessing
from keras_senet_cli import suggest

from .accuracy import labelled_images
from .conditioning import FLOAT32, Precision
from .inputs import batches_to_compare, validate_images
from .model import check_class_names, check_exportable, in_float32, with_plain_ends
from .parity import ExportReport, measure
from .staging import stage_file

logger = logging.getLogger("keras_senet")


class Quantization(NamedTuple):
    """One way to make a file smaller.

    precision   what it may differ by
    calibrates  whether it needs images for the ranges of activations
    io_dtypes   what its input and output may be
    """

    precision: Precision
    calibrates: bool = False
    io_dtypes: tuple[str, ...] = ("float32",)


@dataclass(frozen=True)
class Common:
    """The arguments of an export beside the options of its format.

    images                 (N, H, W, C) to compare on, as the exported model takes them; None makes
                           seeded synthetic ones
    preprocessing          a `Preprocessing` to put into the graph: the file then takes 0..255 RGB
    class_names            the names of the classes, in the order of the model's output
    overwrite              whether to replace what is at the path
    representative_images  (N, H, W, C) to calibrate on, for quantisations that need them
    evaluation             (images, labels): (N, H, W, C) as the exported model takes them, such as
                           uint8 with `preprocessing`, and their classes (N,), on which the accuracy
                           of the model and of the file is measured; None measures none
    canvas                 of a detector: (H, W) of the images that its file takes, multiples of 32,
                           or several of them for a SavedModel; None is a square that every image
                           fits in as large as `detect` makes it
    """

    images: Any = None
    preprocessing: Preprocessing | None = None
    class_names: Any = None
    overwrite: bool = False
    representative_images: Any = None
    evaluation: Any = None
    canvas: Any = None

    def __post_init__(self):
        check_flag("overwrite", self.overwrite)


class FormatOptions:
    """The options of a format, as a frozen dataclass; what it does with a model is in its methods.

    kind           the format's name
    QUANTIZATIONS  the `Quantization` of each name that `quantization` may have
    layout         of the file's input, and of outputs that are maps
    signatures     further ways to call the file, by name: a function of (model, preprocessing,
                   images) that returns what Keras computes, an array for each output's name
    """

    kind: ClassVar[str]
    QUANTIZATIONS: ClassVar[dict[str | None, Quantization]] = {None: Quantization(FLOAT32)}
    DETECTOR_QUANTIZATIONS: ClassVar[tuple[str | None, ...]] = (None,)
    quantization: str | None = None
    layout: str = "nhwc"
    signatures: ClassVar[dict[str, Any]] = {}

    @property
    def chosen(self) -> Quantization:
        """The `Quantization`."""
        return self.QUANTIZATIONS[self.quantization]

    def check_quantization(self) -> None:
        """Raises ValueError for a quantisation that the format does not have."""
        check_choice("quantization", self.quantization, self.QUANTIZATIONS)

    def check_installed(self) -> None:
        """Raises MissingExtraError or ValueError where the format's libraries are not there."""

    def adapt(self, model: keras.Model, common: Common) -> keras.Model:
        """The model that is written. Raises ValueError for one that the format cannot have."""
        return model

    def write(self, model: keras.Model, target: Any, common: Common) -> None:
        """Writes the file."""
        raise NotImplementedError

    def write_detector(self, detector: Any, canvases: Any, about: Any, target: Any) -> None:
        """Writes the file of a detector; `about` is what it says of itself, as data."""
        raise NotImplementedError


def check_float_layers(options: Any) -> tuple[str, ...]:
    """The option `float_layers` as a tuple. Raises ValueError unless it has names, of int8."""
    given = options.float_layers
    is_several = isinstance(given, Iterable | None)
    check_argument("float_layers", given, is_several, "names of layers, or ()")
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if names and options.quantization != "int8":
        raise ValueError(
            "`float_layers` must be () unless quantization='int8'. Received: "
            f"float_layers={given!r}, quantization={options.quantization!r}"
        )
    return names


def check_layer_names(model: keras.Model, names: tuple[str, ...]) -> None:
    """Raises ValueError for the name of a layer that the model has not."""
    known = {layer.name for layer in flat_layers(model)}
    for name in names:
        if name not in known:
            raise ValueError(
                f"`float_layers` must be names of layers of {model.name!r}. "
                f"Received: {name!r}{suggest(str(name), known)}"
            )


def names_within(model: keras.Model, names: Collection[str]) -> set[str]:
    """The names of these layers and of those within them, such as the convolutions of SE blocks."""
    layers = [layer for layer in flat_layers(model) if layer.name in names]
    return {each.name for layer in layers for each in flat_layers(layer)}


def export_model(
    model: keras.Model,
    path: str | os.PathLike,
    options: FormatOptions,
    common: Common | None = None,
) -> ExportReport:
    """Writes a file, runs it, compares it with the model, and keeps it only if they agree.

    Args:
        model: a functional Keras model with one input, for images, or a `Detector`.
        path: the file, or the SavedModel's folder.
        options: a `SavedModel`, `TFLite` or `ONNX`.
        common: the other arguments; None is `Common()`.

    Raises what `to_saved_model`, `to_tflite` and `to_onnx` raise.
    """
    common = common or Common()
    options.check_installed()
    if is_detector(model):
        from .detector.exporting import export_detector

        return export_detector(model, path, options, common)
    if common.canvas is not None:
        raise ValueError(
            f"`canvas` is of a detector; the size of a network's images is its own. "
            f"Received: canvas={common.canvas!r}"
        )
    check_exportable(model, common.preprocessing)
    common = replace(common, class_names=check_class_names(model, common.class_names))
    model = options.adapt(with_plain_ends(in_float32(model)), common)
    common = replace(common, representative_images=_calibration(model, options, common))
    batches = batches_to_compare(model, common.preprocessing, common.images)
    evaluation = labelled_images(common.evaluation, model)
    is_folder = options.kind == "savedmodel"
    with stage_file(path, common.overwrite, is_folder) as target:
        options.write(model, target, common)
        measured = measure(target, model, options, common.preprocessing, batches, evaluation)
    return ExportReport(str(path), options.kind, options.quantization, **measured)


def is_detector(model: Any) -> bool:
    """Whether it is a `Detector`; without loading `detection`, which needs TensorFlow."""
    module = sys.modules.get("keras_senet.detection.faster_rcnn")
    return module is not None and isinstance(model, module.Detector)


def _calibration(model, options, common):
    """The images to calibrate on, an array for each size; None where none are needed."""
    given = common.representative_images
    if options.chosen.calibrates == (given is None):
        accepted = "images to calibrate on" if options.chosen.calibrates else "None"
        raise ValueError(
            f"`representative_images` must be {accepted} with quantization="
            f"{options.quantization!r}. Received: representative_images of {type(given)}"
        )
    if given is None:
        return None
    found = validate_images("representative_images", given, model)
    largest = max(float(batch.max()) for batch in found)
    if common.preprocessing is not None and largest <= 1:
        logger.warning(
            "`representative_images` must be of 0..255 with `preprocessing`; the largest number is "
            "%g, of which the file's ranges will be",
            largest,
        )
    return found
