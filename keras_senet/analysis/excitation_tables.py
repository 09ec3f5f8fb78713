"""The gates of SE blocks as numbers: statistics by block, CSV and NumPy files."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from keras_senet.analysis.excitations import Excitations
from keras_senet.files import to_csv
from keras_senet.imagenet import readable

# The standard deviation below which a channel's gate counts as the same for all images
CONSTANT = 0.01


class BlockStatistics(NamedTuple):
    """One SE block. Fractions are 0..1; for all images and channels where nothing else is said.

    block          the layer's name
    channels       how many gates there are
    mean           the mean gate
    std            the root of the mean over channels of the gates' variance over images: how much a
                   gate changes
    specificity    the fraction of that variance that is between classes: see `specificity`; None
                   where it is not known
    closed         the fraction of the gates with a magnitude below 0.1. Low sigmoids and ReLUs
                   suppress their channel; so do tanh gates around 0, their middle
    opened         the fraction with a magnitude above 0.9: sigmoids and tanhs that saturate. A ReLU
                   does not saturate
    from_identity  the mean of |gate - 1|: 0 for a block that changes nothing
    constant       the fraction of the channels whose gate is nearly the same for all images: its
                   standard deviation over them is below 0.01. Such a gate could be a factor of the
                   convolution before it
    variation      how far the block is from one constant gate per channel, 0..1: the relative error
                   (root mean square) of the gates if each were its mean over images. 0 for a block
                   that `remove_se(constant_from=...)` could fold away, whatever its constants are
    """

    block: str
    channels: int
    mean: float
    std: float
    specificity: float | None
    closed: float
    opened: float
    from_identity: float
    constant: float
    variation: float


def statistics(result: Excitations) -> list[BlockStatistics]:
    """The `BlockStatistics` of each SE block, from `Excitations`."""
    return [
        BlockStatistics(
            name,
            len(block.mean),
            float(block.mean.mean()),
            float(np.sqrt((block.std**2).mean())),
            specificity(block.class_means, block.class_stds, result.class_images),
            float(block.closed.mean()),
            float(block.opened.mean()),
            float(block.from_identity.mean()),
            float((block.std < CONSTANT).mean()),
            variation(block.mean, block.std),
        )
        for name, block in result.blocks.items()
    ]


def specificity(means: np.ndarray, stds: np.ndarray, images: np.ndarray) -> float | None:
    """How much a block's gates depend on the class, B / (B + W): 0 not at all, 1 on nothing else.

    W is the variance of a channel's gate within a class, averaged over classes; B is the variance
    of the classes' mean gates. Both are sums over channels, so that channels count by how much they
    vary, and both are without bias: W_k of class k is divided by n_k - 1, and from B is taken the
    mean of W_k / n_k, by which the means of n_k images differ by chance; a B below 0 is 0. All
    classes count alike. This is the intraclass correlation of the analysis of variance. Constant
    gates have specificity 0.

    Args:
        means, stds: (classes, C), as in `BlockExcitations`.
        images: (classes,); classes with fewer than two images do not count.

    Returns:
        None if fewer than two classes count.
    """
    known = images >= 2
    if known.sum() < 2:
        return None
    n = images[known, None]
    within = stds[known] ** 2 * (n / (n - 1))
    between = max(0.0, float((means[known].var(axis=0, ddof=1) - (within / n).mean(axis=0)).sum()))
    total = between + float(within.mean(axis=0).sum())
    return between / total if total else 0.0


def variation(means: np.ndarray, stds: np.ndarray) -> float:
    """The root of the fraction 0..1 of gates' mean square that is variance over images; both are
    sums over channels.

    As a ratio it compares blocks whose gates are of any size. Gates that are all 0 have variation
    0.

    Args:
        means, stds: (C,), over all images.
    """
    variance = float((stds**2).sum())
    square = variance + float((means**2).sum())
    return math.sqrt(variance / square) if square else 0.0


def statistics_csv(rows: list[BlockStatistics]) -> str:
    """The rows of `statistics` as the text of a CSV file, with the fields as columns."""
    return to_csv([row._asdict() for row in rows], BlockStatistics._fields)


def class_csv(result: Excitations, classes: Iterable[int]) -> str:
    """block, channel, class, mean, std for each gate over all images (class "") and by class."""
    names = readable(result.class_names)
    columns = ("block", "channel", "class", "mean", "std")
    rows = (
        dict(zip(columns, (name, channel, text, mean, std), strict=True))
        for name, block in result.blocks.items()
        for text, means, stds in (
            ("", block.mean, block.std),
            *((names[k], block.class_means[k], block.class_stds[k]) for k in classes),
        )
        for channel, (mean, std) in enumerate(zip(means.tolist(), stds.tolist(), strict=True))
    )
    return to_csv(rows, columns)


def arrays(result: Excitations) -> dict[str, np.ndarray]:
    """All figures by name, for `np.savez`: "<block>/class_means" and so on, float32."""
    found = {"class_names": np.array(result.class_names), "class_images": result.class_images}
    for name, block in result.blocks.items():
        for field, value in vars(block).items():
            found[f"{name}/{field}"] = np.asarray(
                value, None if isinstance(value, str) else "float32"
            )
    return found
