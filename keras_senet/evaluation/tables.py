"""The accuracy class by class."""

from collections.abc import Sequence
from typing import NamedTuple

from keras_senet.evaluation.accuracy import Evaluation
from keras_senet.files import to_csv
from keras_senet.imagenet import readable


class ClassRow(NamedTuple):
    """One class: its images, how many top-1 predictions are correct, the fractions of top-1 and
    top-5, and the class that it is most often mistaken for.

    `top1` and `top5` are None for a class without images, `most_confused_with` is "" for one
    without a confusion.
    """

    name: str
    images: int
    correct: int
    top1: float | None
    top5: float | None
    most_confused_with: str


def per_class(result: Evaluation, class_names: Sequence[str]) -> list[ClassRow]:
    """The `ClassRow` of each class, from an `Evaluation`."""
    names = readable(class_names)
    wrong = result.confusion.copy()
    wrong[range(len(names)), range(len(names))] = 0
    rows = []
    for i, name in enumerate(names):
        images = int(result.images[i])
        correct, in_top5 = int(result.confusion[i, i]), int(result.top5_correct[i])
        top1, top5 = (n / images if images else None for n in (correct, in_top5))
        confused = names[wrong[i].argmax()] if wrong[i].any() else ""
        rows.append(ClassRow(name, images, correct, top1, top5, confused))
    return rows


def per_class_csv(result: Evaluation, class_names: Sequence[str]) -> str:
    """`per_class` as CSV text: class, images, correct, top1, top5, most_confused_with."""
    columns = ("class", *ClassRow._fields[1:])
    rows = per_class(result, class_names)
    return to_csv([dict(zip(columns, row, strict=True)) for row in rows], columns)
