"""ImageNet's 1,000 classes, and predictions in their words."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from keras_senet.fields import check_argument, is_integer


class ImageNetClass(NamedTuple):
    """A class: its WordNet id, its name, and its index in the authors' output order."""

    wordnet_id: str
    name: str
    caffe_index: int


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """The 1,000 classes in the standard order, that of their WordNet ids."""
    text = files("keras_senet").joinpath("imagenet_classes.txt").read_text(encoding="ascii")
    return tuple(
        ImageNetClass(wordnet_id, name, int(index))
        for wordnet_id, name, index in map(str.split, text.splitlines())
    )


@cache
def class_order() -> np.ndarray:
    """Each class's index in the authors' outputs: `caffe_outputs[..., class_order()]`."""
    return np.array([imagenet_class.caffe_index for imagenet_class in imagenet_classes()])


def readable(class_names: Iterable[str]) -> tuple[str, ...]:
    """The names of classes, WordNet ids followed by ImageNet's words: "n01440764 tench"."""
    words = {c.wordnet_id: f"{c.wordnet_id} {c.name}" for c in imagenet_classes()}
    return tuple(words.get(name, name) for name in class_names)


def decode_predictions(
    preds, top: int = 5, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """The top classes of each image: lists of (WordNet id, name, score), the highest score first.

    Args:
        preds: probabilities or logits (N, 1000) of an ImageNet network, or (N, classes) of another.
        top: how many classes; of another network all, if it has fewer.
        class_names: of another network, its `class_names`: they are in place of the WordNet id, and
            of the name, unless they are such ids themselves.

    Raises:
        ValueError: for another shape or another number of classes.
    """
    from keras import ops  # which the names of the classes are read without

    scores = np.asarray(ops.convert_to_numpy(preds))
    classes = _named_classes(class_names)
    if class_names is not None and is_integer(top):
        top = min(top, len(classes))
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise ValueError(
            f"`preds` must have the shape (N, {len(classes)}). "
            f"Received: preds of shape {scores.shape}"
        )
    holds = is_integer(top) and 1 <= top <= len(classes)
    check_argument("top", top, holds, f"an integer of 1..{len(classes)}")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [(*classes[i], float(row[i])) for i in indices]
        for indices, row in zip(best, scores, strict=True)
    ]


def _named_classes(class_names):
    """Pairs of (WordNet id, name); of other classes the name twice."""
    words = {each.wordnet_id: each.name for each in imagenet_classes()}
    names = words if class_names is None else class_names
    return [(name, words.get(name, name)) for name in names]
