"""Which images of a dataset are the same one."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_senet.images.facts import Facts, Item

# Of two reductions, in values of 0..255: photographs that were scaled or compressed again differ by
# less, different ones by more. What has little contrast looks like all that has.
NEAR, CONTRAST = 3.0, 10.0
BLOCK = 2048  # images that are compared at once


@dataclass(frozen=True)
class Duplicates:
    """Images, by number, that are the same one; `identical` in every pixel, or else nearly.

    across  whether they are in several splits
    labels  whether they have several labels
    """

    images: tuple[int, ...]
    identical: bool
    across: bool
    labels: bool


def find_duplicates(
    items: Sequence[Item], facts: Sequence[Facts], near: bool
) -> tuple[Duplicates, ...]:
    """Groups of equal or, with `near`, nearly equal images; across splits and classes first."""
    same = defaultdict(list)
    for number, each in enumerate(facts):
        if not each.problem and (key := each.pixels or each.digest):
            same[key].append(number)
    leaders = [group[0] for group in same.values()]
    members = dict(zip(leaders, same.values(), strict=True))
    root = {leader: leader for leader in leaders}
    reduced = [n for n in leaders if facts[n].reduced is not None] if near else []
    for one, other in _near_pairs([facts[n].reduced for n in reduced]):
        root[_find(root, reduced[other])] = _find(root, reduced[one])
    joined = defaultdict(list)
    for leader in leaders:
        joined[_find(root, leader)].append(leader)
    groups = []
    for parts in joined.values():
        images = tuple(sorted(n for leader in parts for n in members[leader]))
        if len(images) > 1:
            splits, labels = ({getattr(items[n], f) for n in images} for f in ("split", "label"))
            groups.append(Duplicates(images, len(parts) == 1, len(splits) > 1, len(labels) > 1))
    return tuple(sorted(groups, key=lambda g: (-g.labels - g.across, not g.identical, g.images)))


def _find(root, number):
    """The first of the numbers that are joined with this one."""
    while root[number] != number:
        root[number] = number = root[root[number]]
    return number


def _near_pairs(reduced) -> Iterator[tuple[int, int]]:
    """Pairs of places whose reductions, uint8 (192,), differ by less than `NEAR` (RMS)."""
    if not reduced:
        return
    values = np.stack(reduced).astype("float32") - 128
    (places,) = np.nonzero(values.std(axis=1) >= CONTRAST)
    values = values[places]
    squares = np.square(values).sum(axis=1)
    limit = NEAR**2 * values.shape[1]
    starts = range(0, len(values), BLOCK)
    for i, j in itertools.combinations_with_replacement(starts, 2):
        a, b = slice(i, i + BLOCK), slice(j, j + BLOCK)
        distances = squares[a, None] + squares[None, b] - 2 * values[a] @ values[b].T
        for one, other in zip(*np.nonzero(distances < limit), strict=True):
            if i + one < j + other:
                yield int(places[i + one]), int(places[j + other])
