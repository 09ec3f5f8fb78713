"""What a network and one made of it cost and get right."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_senet.complexity import complexity


@dataclass(frozen=True)
class Cost:
    """What one network costs and gets right.

    parameters     as in `Complexity`
    multiply_adds  as in `Complexity`, for one image
    top1, top5     the fraction 0..1 of the images that it gets right; None if it was not evaluated
    images         how many those are
    """

    parameters: int
    multiply_adds: int
    top1: float | None = None
    top5: float | None = None
    images: int = 0


@dataclass(frozen=True)
class Comparison:
    """A network before and after something was removed from it.

    parameters, multiply_adds  the fraction of them that is left, 0..1
    top1, top5                 what is gained (negative: lost), as fractions of the images; None
                               without an evaluation
    """

    before: Cost
    after: Cost

    @property
    def parameters(self) -> float:
        return self.after.parameters / self.before.parameters

    @property
    def multiply_adds(self) -> float:
        return self.after.multiply_adds / self.before.multiply_adds

    @property
    def top1(self) -> float | None:
        return _difference(self.after.top1, self.before.top1)

    @property
    def top5(self) -> float | None:
        return _difference(self.after.top5, self.before.top5)


def _difference(after, before):
    return None if after is None or before is None else after - before


def cost(model: keras.Model, dataset: Any = None, **options: Any) -> Cost:
    """The `Cost` of a network; `options` are those of `keras_senet.evaluation.evaluate`.

    Raises:
        ValueError: as `complexity` and `evaluate` do.
    """
    counts = complexity(model)
    if dataset is None:
        return Cost(counts.parameters, counts.multiply_adds)
    from keras_senet.evaluation import evaluate

    result = evaluate(model, dataset, **options)
    return Cost(
        counts.parameters, counts.multiply_adds, result.top1, result.top5, int(result.images.sum())
    )


def compare(
    before: keras.Model, after: keras.Model, dataset: Any = None, **options: Any
) -> Comparison:
    """The `Comparison` of two networks, on a dataset of `keras_senet.data` or None; see `cost`."""
    return Comparison(*(cost(model, dataset, **options) for model in (before, after)))
