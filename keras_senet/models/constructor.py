"""application(): turns a spec into a constructor in the style of `keras.applications`."""

from dataclasses import replace
from typing import NamedTuple

import keras
from keras import layers

from keras_senet import weights as checkpoints
from keras_senet.fields import is_integer, plain
from keras_senet.initializers import blank
from keras_senet.layers import SqueezeExcite
from keras_senet.models.blocks import Spec, channel_axis, global_pool
from keras_senet.preprocessing import IMAGENET, Preprocessing, is_size, sides
from keras_senet.weights.metadata import INDIFFERENT, describe

DOCUMENTATION = """{title}: images (N, {size}, {size}, 3) -> class probabilities (N, {classes}).

The images are normalised RGB, as `model.preprocessing` makes them from 0..255; the layout is
`keras.config.image_data_format()`. The attribute `spec` is the architecture; `variant(replace(spec, ...))` makes
another constructor of a changed one, such as the plain network with `se=None`.

Args:
    include_top: whether the classifier is at the end; without it the output is the last feature map.
    weights: {weights}None (random), the path of a file, or
        "hf://owner/name", a repository on the Hugging Face Hub. A file is `.weights.h5`, `.safetensors`,
        `.caffemodel` or one of torch.save (`.pth`, `.pt`, `.bin`, `.ckpt`, `.pth.tar`), also a training's
        checkpoint: what is taken of it is logged, and "run.pth#state_dict" takes the part of that name. The
        file decides which variant of the network is built, as two families of ImageNet weights have equal
        shapes and different strides. With other than three channels the first convolution is adapted: one
        channel gets the sum over RGB, more get RGB in turn, scaled by 3 / channels.
    input_tensor: a Keras tensor to build the network on, in place of a new input.
    input_shape: without the batch; a size may be None, and is otherwise at least {min_size}.
        Defaults to {size} x {size} x 3, or what the weights are for.
    pooling: without the top: None, "avg" or "max" over the feature map, giving (N, C).
    classes: number of classes, with the top.
    classifier_activation: of the last layer; None gives logits. With weights: "softmax" or None.
    name: the model's name.

Returns:
    A functional `keras.Model` with the attributes `spec` and `preprocessing`.

Raises:
    ValueError: for any other argument, naming it, what was given and what is accepted; also for a file that is damaged
        or of another network.
    DownloadError: if published weights are not cached and cannot be downloaded.
"""


def application(
    spec,
    *,
    name,
    input_size=224,
    min_size=32,
    classes=1000,
    head=global_pool,
    preprocessing=None,
    base=None,
):
    """A constructor of the network that `spec` describes.

    Args:
        spec: a frozen dataclass; called on images it returns the feature map.
        name: the models' default name.
        input_size: the default height and width.
        min_size: the smallest height and width that the network can run at.
        classes: the default number of classes.
        head: `head(feature_map, classes, activation)` returns the predictions.
        preprocessing: a `Preprocessing`; None is ImageNet's mean and standard deviation, or -1..1
        for small images. base: the published network that this is a variant of, as
        `constructor.base`; None is this one itself.
    """
    default_classes, default_name = classes, name
    default_weights = "imagenet" if checkpoints.is_published(name) else None
    base = base or Published(name, spec)
    if preprocessing is None:
        preprocessing = (
            replace(IMAGENET, size=input_size)
            if input_size > 32
            else Preprocessing.scaled(input_size)
        )

    def constructor(
        include_top=True,
        weights=default_weights,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=default_classes,
        classifier_activation="softmax",
        name=default_name,
    ):
        _check_choice("pooling", pooling, (None, "avg", "max"))
        _check_classes(classes)
        classes = int(classes)

        def build(spec, preprocessing, channels=3):
            images = _images(input_tensor, input_shape, preprocessing.size, channels, min_size)
            x = spec(images)
            if include_top:
                x = head(x, classes, classifier_activation)
            elif pooling is not None:
                pool = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[
                    pooling
                ]
                x = pool(name=f"{pooling}_pool")(x)
            sources = (
                [images] if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
            )
            model = keras.Model(sources[0] if len(sources) == 1 else sources, x, name=name)
            _check_stages(spec, model)
            model.spec = spec
            model.preprocessing = _preprocessing_of(images, preprocessing)
            return model

        if weights is None:
            return build(spec, preprocessing)
        source = checkpoints.find(weights, base.name)
        published = isinstance(source, checkpoints.Checkpoint)
        if published:
            base.check(spec)
        if include_top:
            _check_activation(classifier_activation)
            if published and classes != default_classes:
                raise ValueError(
                    f"With `weights={weights!r}` and `include_top=True`, `classes` must be {default_classes}. "
                    f"Received: classes={classes}"
                )
        with checkpoints.open_weights(source, spec, preprocessing) as stored:
            with blank():
                model = build(stored.spec, stored.preprocessing, stored.channels())
            stored.load_into(model, include_top)
        return model

    def variant(spec, *, name=f"{name}_variant"):
        """A constructor of another spec with this one's sizes, classes, head and preprocessing."""
        return application(
            spec,
            name=name,
            input_size=input_size,
            min_size=min_size,
            classes=default_classes,
            head=head,
            preprocessing=preprocessing,
            base=base,
        )

    constructor.spec = spec
    constructor.base = base
    constructor.preprocessing = preprocessing
    constructor.variant = variant
    constructor.input_size = input_size
    constructor.classes = default_classes
    constructor.__doc__ = DOCUMENTATION.format(
        title=type(spec).__name__,
        name=name,
        size=input_size,
        min_size=min_size,
        classes=classes,
        weights=_published_tags(name),
    )
    return constructor


class Published(NamedTuple):
    """The network that published weights are for: its name in the registry, and its spec."""

    name: str
    spec: Spec

    def check(self, spec):
        """Raises ValueError unless `spec` is this network in a published form, dilated or not."""
        family = next(iter(self.spec.families))
        comparable = [
            s.published_by(family) if family in s.families else s for s in (self.spec, spec)
        ]
        own, other = map(describe, comparable)
        changed = [
            field for field in other if field not in INDIFFERENT and other[field] != own.get(field)
        ]
        if changed:
            raise ValueError(
                f"The published weights are for {self.spec}; this variant differs in {', '.join(changed)}. "
                "Pass `weights=None`, or the path of weights that were trained with it"
            )


def _published_tags(name):
    """The published weights as the docstring lists them."""
    if not checkpoints.is_published(name):
        return "there are no published ones: "
    tags = (checkpoint.tag for checkpoint in checkpoints.list_weights(name))
    return "".join(f'"{tag}", ' for tag in dict.fromkeys(["imagenet", *tags]))


def _check_choice(argument, value, accepted):
    if value not in accepted:
        raise ValueError(
            f"`{argument}` must be one of {list(accepted)}. Received: {argument}={value!r}"
        )


def _check_classes(classes):
    if not is_integer(classes) or classes < 1:
        raise ValueError(
            f"`classes` must be an integer of at least 1. Received: classes={classes!r}"
        )


def _check_activation(classifier_activation):
    if keras.activations.get(classifier_activation) not in (
        keras.activations.linear,
        keras.activations.softmax,
    ):
        raise ValueError(
            "With weights, `classifier_activation` must be 'softmax' or None: they were trained for these. "
            f"Received: classifier_activation={classifier_activation!r}"
        )


def _check_stages(spec, model):
    """An SE block must stand in each stage that `spec.se.stages` names."""
    se = getattr(spec, "se", None)
    if se is None or se.stages is None:
        return
    found = {layer.name.split("_")[0] for layer in model.layers if isinstance(layer, SqueezeExcite)}
    missing = [stage for stage in se.stages if f"stage{stage}" not in found]
    if missing or not se.stages:
        stages = sorted(
            {layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("stage")}
        )
        raise ValueError(
            f"`stages` must name stages of this network, {', '.join(stages)}. Received: stages={se.stages}"
        )


def _preprocessing_of(images, preprocessing):
    """The preprocessing for a network's input: its size, where that is known and can be prepared,
    and its channels.
    """
    shape, channels = images.shape[1:], images.shape[channel_axis()]
    own = sides(preprocessing.size)
    size = tuple(
        n or default
        for n, default in zip(shape[:2] if channel_axis() == -1 else shape[1:], own, strict=True)
    )
    size = size if is_size(size) else preprocessing.size
    return replace(preprocessing, size=size).for_channels(channels)


def _images(input_tensor, input_shape, size, channels, min_size):
    """The Keras tensor to build on: `input_tensor`, or a new input of `input_shape` or the default
    shape.
    """
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"`input_tensor` must be a Keras tensor. Received: input_tensor of {type(input_tensor)}"
        )
    channels_last = channel_axis() == -1
    default = (*sides(size), channels) if channels_last else (channels, *sides(size))
    given = default if input_tensor is None else tuple(input_tensor.shape[1:])
    shape = given if input_shape is None else input_shape
    valid = (
        isinstance(shape, (tuple, list))
        and len(shape) == 3
        and all(n is None or (is_integer(n) and n > 0) for n in shape)
    )
    if not valid or shape[-1 if channels_last else 0] is None:
        raise ValueError(
            "`input_shape` must be three positive integers, of which the sizes may be None, in the layout "
            f"{keras.config.image_data_format()!r}. Received: input_shape={shape}"
        )
    shape = plain(tuple(shape))
    if input_tensor is not None and shape != given:
        raise ValueError(
            "`input_shape` must be that of `input_tensor`, or None. "
            f"Received: input_shape={shape}, input_tensor of shape {tuple(input_tensor.shape)}"
        )
    sizes = shape[:2] if channels_last else shape[1:]
    if any(n is not None and n < min_size for n in sizes):
        raise ValueError(
            f"Images must be at least {min_size} x {min_size}. Received: input_shape={shape}"
        )
    return keras.Input(shape, name="images") if input_tensor is None else input_tensor
