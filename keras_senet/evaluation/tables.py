"""The accuracy class by class."""

import csv
import io
from typing import NamedTuple

from keras_senet.preprocessing import imagenet_classes


class ClassRow(NamedTuple):
    """One class: its images, those whose class was the likeliest, the parts 0..1, and which class
    it was taken for.

    `top1` and `top5` are None for a class without images, `most_confused_with` is "" for one
    without a confusion.
    """

    name: str
    images: int
    correct: int
    top1: float | None
    top5: float | None
    most_confused_with: str


def per_class(result, class_names):
    """The `ClassRow` of each class, from an `Evaluation`."""
    names = readable(class_names)
    wrong = result.confusion.copy()
    wrong[range(len(names)), range(len(names))] = 0
    rows = []
    for i, name in enumerate(names):
        images, correct = int(result.images[i]), int(result.confusion[i, i])
        top1, top5 = (
            n / images if images else None for n in (correct, int(result.top5_correct[i]))
        )
        rows.append(
            ClassRow(
                name,
                images,
                correct,
                top1,
                top5,
                names[wrong[i].argmax()] if wrong[i].any() else "",
            )
        )
    return rows


def readable(class_names):
    """The names of classes, with ImageNet's words behind WordNet ids: "n01440764 tench"."""
    words = {c.wordnet_id: f"{c.wordnet_id} {c.name}" for c in imagenet_classes()}
    return tuple(words.get(name, name) for name in class_names)


def per_class_csv(result, class_names):
    """The rows of `per_class` as the text of a CSV file: class, images, correct, top1, top5,
    most_confused_with.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("class", *ClassRow._fields[1:]))
    writer.writerows(per_class(result, class_names))
    return text.getvalue()
