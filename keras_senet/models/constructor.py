"""application(): turns a spec into a constructor in the style of `keras.applications`."""

import enum
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import keras
from keras import layers

from keras_senet import models
from keras_senet import weights as checkpoints
from keras_senet.bases import mark, preprocessing_of
from keras_senet.fields import check_choice, check_integer
from keras_senet.graphs import stage_number, stage_of
from keras_senet.initializers import blank
from keras_senet.layers import SqueezeExcite
from keras_senet.layers.data_format import arrange
from keras_senet.models.arguments import check_activation, fit_preprocessing, make_input
from keras_senet.models.blocks import global_pool
from keras_senet.models.network import Network
from keras_senet.preprocessing import IMAGENET, Preprocessing
from keras_senet.weights.metadata import describe, differences

POOLS = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}

DOCUMENTATION = """{title}: images (N, {size}, {size}, 3) -> class probabilities (N, {classes}).

The images are normalised RGB, as `model.preprocessing` makes them from 0..255; the layout is
`keras.config.image_data_format()`. The attribute `spec` is the architecture;
`variant(replace(spec, ...))` makes another constructor of a changed one, such as the plain network
with `se=None`.

Args:
    include_top: whether the classifier is at the end; without it the output is the feature map.
    weights: {weights}None (random), the path of a file, or
        "hf://owner/name", a repository on the Hugging Face Hub. A file is `.weights.h5`,
        `.safetensors`, `.caffemodel` or one of torch.save (`.pth`, `.pt`, `.bin`, `.ckpt`,
        `.pth.tar`), also a training's checkpoint: what is taken of it is logged, and
        "run.pth#state_dict" takes the part of that name. The file decides which variant of the
        network is built, as two families of ImageNet weights have equal shapes and different
        strides. With other than three channels the first convolution is adapted: one channel gets
        the sum over RGB, more get RGB in turn, scaled by 3 / channels.
    input_tensor: a Keras tensor to build the network on, in place of a new input.
    input_shape: without the batch; a size may be None, and is otherwise at least {min_size}.
        Defaults to {size} x {size} x 3, or what the weights are for.
    pooling: without the top: None, "avg" or "max" over the feature map, which outputs (N, C).
    classes: number of classes, with the top.
    classifier_activation: of the last layer; None outputs logits. With weights: "softmax" or None.
    name: the model's name.

Returns:
    A functional `keras.Model` with the attributes `spec`, `preprocessing` and `class_names` (None
    where they are not known), which a `.keras` file keeps.

Raises:
    ValueError: for any other argument, naming it, what was given and what is accepted; also for a
        file that is damaged or of another network.
    DownloadError: if published weights are not cached and cannot be downloaded.
"""


class Default(enum.Enum):
    """Stands for the default of a constructor, which its signature shows."""

    DEFAULT = "default"


DEFAULT = Default.DEFAULT


@dataclass(frozen=True)
class Constructor:
    """What `application` returns: a function in the style of `keras.applications`.

    Called, it returns a model. Those of this package are pickled by their names.

    spec           a frozen dataclass; called on images it returns the feature map
    name           the models' default name
    input_size     the default height and width
    min_size       the smallest height and width that the network can run at
    classes        the default number of classes
    head           `head(feature_map, classes, activation)` returns the predictions
    preprocessing  a `Preprocessing`, at the default size
    original       the constructor of the published network that this is a variant of, or None
    """

    spec: Any
    name: str
    input_size: int = 224
    min_size: int = 32
    classes: int = 1000
    head: Callable[..., Any] = global_pool
    preprocessing: Preprocessing = IMAGENET
    original: "Constructor | None" = field(default=None, repr=False)

    def __post_init__(self):
        text = DOCUMENTATION.format(
            title=type(self.spec).__name__,
            size=self.input_size,
            min_size=self.min_size,
            classes=self.classes,
            weights=_published_tags(self.name),
        )
        object.__setattr__(self, "__doc__", text)
        object.__setattr__(self, "__signature__", self._signature())

    def _signature(self):
        """That of `__call__` with the defaults of this constructor."""
        own = {"weights": self._default_weights(), "classes": self.classes, "name": self.name}
        _, *parameters = inspect.signature(type(self).__call__).parameters.values()
        return inspect.Signature(
            [
                inspect.Parameter(each.name, each.kind, default=own.get(each.name, each.default))
                for each in parameters
            ]
        )

    def _default_weights(self):
        return "imagenet" if checkpoints.is_published(self.name) else None

    @property
    def __name__(self) -> str:
        """The name of a public constructor, such as "SEResNet50"; of others that of its models."""
        names = (name for name in models.__all__ if getattr(models, name) is self)
        return next(names, self.name)

    def __reduce__(self):
        if getattr(models, self.__name__, None) is self:
            return models.get, (self.__name__,)
        return type(self), tuple(getattr(self, each.name) for each in fields(self))

    @property
    def base(self) -> "Constructor":
        """The constructor of the published network that this is a variant of, or itself."""
        return self.original or self

    def variant(self, spec: Any, *, name: str | None = None) -> "Constructor":
        """A constructor of another spec with this one's sizes, classes, head and preprocessing."""
        name = f"{self.name}_variant" if name is None else name
        return replace(self, spec=spec, name=name, original=self.base)

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike | Default | None = DEFAULT,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int | Default = DEFAULT,
        classifier_activation: str | Callable | None = "softmax",
        name: str | Default | None = DEFAULT,
    ) -> Network:
        weights = self._default_weights() if weights is DEFAULT else weights
        classes = self.classes if classes is DEFAULT else classes
        name = self.name if name is DEFAULT else name
        check_choice("pooling", pooling, (None, "avg", "max"))
        check_integer("classes", classes, 1)
        classes = int(classes)

        def build(spec, preprocessing, channels=3):
            size = preprocessing.size
            images = make_input(input_tensor, input_shape, size, channels, self.min_size)
            x = spec(images)
            if include_top:
                x = self.head(x, classes, classifier_activation)
            elif pooling is not None:
                x = POOLS[pooling](name=f"{pooling}_pool")(x)
            return _model(images, x, name, spec, fit_preprocessing(images, preprocessing))

        if weights is None:
            return build(self.spec, self.preprocessing)
        source = checkpoints.resolve(weights, self.base.name)
        top = (classes, classifier_activation) if include_top else None
        self._check_source(source, weights, top)
        with checkpoints.open_weights(source, self.spec, self.preprocessing) as stored:
            with blank():
                model = build(stored.spec, stored.preprocessing, stored.channels())
            stored.load_into(model, include_top)
            if include_top:
                model.class_names = stored.class_names
        return model

    def _check_source(self, source, weights, top):
        """Raises ValueError for published weights of another network, and a classifier, a pair of
        its classes and activation or None, that they are not for.
        """
        is_published = isinstance(source, checkpoints.Checkpoint)
        if is_published and not source.says_spec:
            self.base.check_published(self.spec)
        if top is None:
            return
        classes, activation = top
        check_activation(activation)
        if is_published and classes != self.classes:
            raise ValueError(
                f"With `weights={weights!r}` and `include_top=True`, `classes` must be "
                f"{self.classes}. Received: classes={classes}"
            )

    def load(
        self, weights: str | os.PathLike, size: tuple[int | None, int | None] | None = None
    ) -> Network:
        """A network with as many classes and channels as its weights have, and without a classifier
        if they have none.

        `size` is (H, W) of its images, where None leaves a side open; None is the network's own.
        """
        source = checkpoints.resolve(weights, self.base.name)
        with checkpoints.open_weights(source, self.spec, self.preprocessing) as stored:
            classes, channels = stored.classes(), stored.channels()
        options: dict[str, Any] = {} if classes is None else {"classes": classes}
        if size is not None:
            options["input_shape"] = arrange(*size, channels)
        return self(weights=weights, include_top=classes is not None, **options)

    def check_published(self, spec: Any) -> None:
        """Raises ValueError unless `spec` is this network in a published form, dilated or not."""
        family = next(iter(self.spec.forms), None)
        own, other = (each.forms.get(family, each) for each in (self.spec, spec))
        changed = [name for name, *_ in differences(describe(own), other)]
        if changed:
            raise ValueError(
                f"The published weights are for {self.spec}; this variant differs in "
                f"{', '.join(changed)}. Pass `weights=None`, or the path of weights that were "
                "trained with it"
            )


def application(
    spec: Any,
    *,
    name: str,
    input_size: int = 224,
    min_size: int = 32,
    classes: int = 1000,
    head: Callable[..., Any] = global_pool,
    preprocessing: Preprocessing | None = None,
) -> Constructor:
    """A constructor of the network that `spec` describes.

    Args:
        spec: a frozen dataclass; called on images it returns the feature map.
        name: the models' default name.
        input_size: the default height and width.
        min_size: the smallest height and width that the network can run at.
        classes: the default number of classes.
        head: `head(feature_map, classes, activation)` returns the predictions.
        preprocessing: a `Preprocessing`; None is ImageNet's mean and standard deviation, or -1..1
            for small images.
    """
    if preprocessing is None:
        is_small = input_size <= 32
        preprocessing = (
            Preprocessing.scaled(input_size) if is_small else replace(IMAGENET, size=input_size)
        )
    return Constructor(spec, name, input_size, min_size, classes, head, preprocessing)


# For 32 x 32 images, such as those of CIFAR-10
small = partial(application, input_size=32, min_size=8, classes=10)


def _model(images, outputs, name, spec, preprocessing):
    sources = keras.tree.flatten(keras.utils.get_source_inputs(images))
    inputs = sources[0] if len(sources) == 1 else sources
    model = Network(inputs, outputs, name=name)
    _check_stages(spec, model)
    is_input = any(images is source for source in sources)
    before = [] if is_input else keras.Model(inputs, images).layers
    mark(model, spec, preprocessing, [each for each in model.layers if each not in before])
    model.spec = spec
    model.preprocessing = preprocessing if is_input else preprocessing_of(model) or preprocessing
    return model


def _published_tags(name):
    tags = checkpoints.list_tags(name)
    return "".join(f'"{tag}", ' for tag in tags) or "there are no published ones: "


def _check_stages(spec, model):
    """An SE block must stand in each stage that `spec.se.stages` names."""
    se = getattr(spec, "se", None)
    if se is None or se.stages is None:
        return
    found = {stage_number(each.name) for each in model.layers if isinstance(each, SqueezeExcite)}
    if not se.stages or not found.issuperset(se.stages):
        names = (layer.name for layer in model.layers)
        stages = sorted({stage_of(name) for name in names if stage_number(name) is not None})
        raise ValueError(
            f"`stages` must name stages of this network, {', '.join(stages)}. "
            f"Received: stages={se.stages}"
        )
