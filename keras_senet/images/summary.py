"""An `Inspection` in numbers."""

from collections import Counter
from typing import Any

import numpy as np

from keras_senet.files import printable
from keras_senet.images.inspection import Inspection
from keras_senet.images.layout import SPLITS

LISTED = 1000  # groups of duplicates


def summarize(found: Inspection, dataset: str) -> dict[str, Any]:
    """What `keras-senet data --json` prints.

    images, splits, classes  how many images there are, by split, and by class and split; "" is the
                             split of a dataset without splits
    imbalance   the images of the largest class over those of the smallest, of all splits
    formats, colours, bytes  of the images that can be used
    sizes       the images with the smallest, the median and the largest area, and the range of
                width over height
    problems    how many images have each kind
    unusable, left_out  the images that cannot be used and the other files, with the reason
    duplicates  groups of images that are the same one, those across splits and classes first
    """
    counts = found.counts()
    totals = Counter(item.split for item in found.items)
    used = [i for i, facts in enumerate(found.facts) if not facts.problem]
    sums = [sum(each.values()) for each in counts.values()]
    return {
        "dataset": dataset,
        "images": len(found.items),
        "splits": {split: totals[split] for split in ("", *SPLITS) if totals[split]},
        "classes": {label: dict(each) for label, each in counts.items()},
        "imbalance": max(sums) / min(sums),
        "formats": dict(Counter(found.facts[i].format for i in used).most_common()),
        "colours": dict(Counter(found.facts[i].colour for i in used).most_common()),
        "bytes": sum(facts.size for facts in found.facts),
        "sizes": _sizes(found, used),
        "problems": dict(Counter(each.kind for each in found.problems()).most_common()),
        "unusable": [
            {"file": item.name, "reason": facts.problem}
            for item, facts in zip(found.items, found.facts, strict=True)
            if facts.problem
        ],
        "left_out": [
            {"file": printable(path), "reason": reason} for path, reason in found.left_out.items()
        ],
        "duplicates": _duplicates(found),
    }


def _sizes(found, used):
    if not used:
        return {}
    facts = [found.facts[i] for i in used]
    areas = np.array([each.height * each.width for each in facts])
    order = areas.argsort(kind="stable")
    ratios = np.array([each.width / each.height for each in facts])
    places = {"smallest": order[0], "median": order[len(order) // 2], "largest": order[-1]}
    sizes: dict[str, Any] = {
        name: {
            "file": found.items[used[place]].name,
            "width": facts[place].width,
            "height": facts[place].height,
        }
        for name, place in places.items()
    }
    low, middle, high = (float(n) for n in np.percentile(ratios, (0, 50, 100)))
    return sizes | {"aspect_ratio": {"min": low, "median": middle, "max": high}}


def _duplicates(found):
    groups = found.duplicates
    listed = [
        {
            "identical": group.identical,
            "across_splits": group.across,
            "across_classes": group.labels,
            "images": [
                {"file": item.name, "split": item.split, "class": item.label}
                for item in (found.items[i] for i in group.images)
            ],
        }
        for group in groups[:LISTED]
    ]
    return {
        "groups": len(groups),
        "images": sum(len(group.images) for group in groups),
        "across_splits": sum(group.across for group in groups),
        "across_classes": sum(group.labels for group in groups),
        "near": found.compared,
        "listed": listed,
    }
