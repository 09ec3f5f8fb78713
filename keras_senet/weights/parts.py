"""Which of the dictionaries in a file of PyTorch holds the network, and which prefix its names have
there.

A training saves its weights among other things: `{"epoch": 90, "state_dict": ..., "state_dict_ema":
...}`, with names such as "module.conv1.weight". Each dictionary and each prefix with which a
network's names are complete is a `Part`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from keras_senet.fields import list_some
from keras_senet.weights.readers import Contents, UnsupportedFileError

MAX_DEPTH = 6  # of dictionaries in each other
MAX_LISTED = 100  # items of a list that are looked at
# The names of dictionaries around weights: of two networks, the one that is named earlier here is
# taken, as by timm.
WRAPPERS = "state_dict model_state_dict model_state model network net weights params module".split()
# What stands before names in the modules that trainings wrap networks into
PREFIXES = frozenset(
    "module _orig_mod model timm_model network net backbone encoder _model".split()
)
# Running averages of weights: what their publishers evaluate
AVERAGES = frozenset(("ema", "averaged", "average"))
NOT_WEIGHTS = re.compile(
    r"optim|sched|scaler|callback|loop|rng|hyper|hparam|args|config", re.IGNORECASE
)
LISTED = 6  # parts that a message names


class Part(NamedTuple):
    """The weights of one network in a file.

    path     the names of the dictionaries around them
    prefix   what stands before each of their names, "" or with a dot at the end
    weights  their values by name, without the prefix
    others   what `weights="file.pth#name"` calls the other parts of the file
    skipped  the names of the same dictionary's other weights, without the prefix
    """

    path: tuple[str, ...]
    prefix: str
    weights: dict
    others: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __str__(self):
        """What was taken and what was not; nothing for a file of one network with its own names."""
        taken = [f"the weights are those of its {'.'.join(self.path)!r}"] if self.path else []
        if self.prefix:
            taken.append(f"the prefix {self.prefix!r} of their names is taken off")
        if self.skipped:
            taken.append(f"skipped, as without the prefix: {_list(self.skipped)}")
        if self.others:
            taken.append(f"it also has {_list(self.others)}: {_how_to_choose(self.others[0])}")
        return "; ".join(taken)


def whole(contents, part):
    """The part that a file without such parts is.

    Raises:
        UnsupportedFileError: if a `part` is asked for.
    """
    if part is not None:
        raise UnsupportedFileError(f"it has no part {part!r}: it is a single network's")
    return Part((), "", contents.tree)


def choose_part(
    contents: Contents, asked: str | None = None, marks: Sequence[tuple[str, ...]] = ()
) -> Part:
    """The network's weights in what a reader has found, or those of the part that is asked for.

    Without `asked`, dictionaries with the names of a known network come before others, running
    averages before the weights that they are of, and then the usual names.

    Raises:
        UnsupportedFileError: if there are no weights, or those of several networks and nothing
            decides.
    """
    found = _dictionaries(contents.tree)
    networks = [
        (path, prefix) for path, weights in found.items() for prefix in _prefixes(weights, marks)
    ]
    candidates = networks or _unknown_networks(found)
    if not candidates:
        raise UnsupportedFileError(
            f"it has no dictionary of weights, it is {contents.describe(contents.tree)}. "
            "Save the `state_dict()` of the network with torch.save"
        )
    names = _names(candidates)
    path, prefix = _choose(candidates, asked, names)
    weights = {
        name[len(prefix) :]: value for name, value in found[path].items() if name.startswith(prefix)
    }
    others = tuple(name for candidate, name in names.items() if candidate != (path, prefix))
    # A single number is no weight: torch's AveragedModel has `n_averaged` there
    skipped = tuple(
        name
        for name, value in found[path].items()
        if not name.startswith(prefix) and value.shape != ()
    )
    return Part(path, prefix, weights, others, skipped)


def _choose(candidates, asked, names):
    """The best of the candidates, of those that are asked for."""
    if asked is not None:
        candidates = [c for c in candidates if f"{_full_name(*c)}.".startswith(f"{asked}.")]
        if not candidates:
            raise UnsupportedFileError(f"it has no part {asked!r}; it has {_list(names.values())}")
    ranks = {candidate: _rank(*candidate) for candidate in candidates}
    best = [candidate for candidate in candidates if ranks[candidate] == min(ranks.values())]
    if len(best) > 1:
        raise UnsupportedFileError(
            f"it has the weights of {len(best)} networks: {_list(names[c] for c in best)}. "
            f"Choose one: {_how_to_choose(names[best[0]])}"
        )
    return best[0]


def _dictionaries(tree):
    """The weights of each dictionary that has any, by its path; each is looked at once."""
    found, seen = {}, set()
    level = [((), tree)]
    while level and len(level[0][0]) <= MAX_DEPTH:
        inner = []
        for path, value in level:
            if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
                continue
            seen.add(id(value))
            items = (
                value
                if isinstance(value, dict)
                else {str(i): item for i, item in enumerate(value[:MAX_LISTED])}
            )
            weights = {name: item for name, item in items.items() if hasattr(item, "shape")}
            if weights:
                found[path] = weights
            inner += [
                ((*path, name), item)
                for name, item in items.items()
                if item and name not in weights
            ]
        level = inner
    return found


def _names(candidates):
    """What each candidate is called: by its dictionaries, and by prefix where that is needed."""
    counts = Counter(path for path, _ in candidates)
    return {
        (path, prefix): ".".join(path) if path and counts[path] == 1 else _full_name(path, prefix)
        for path, prefix in candidates
    }


def _full_name(path, prefix):
    return ".".join(path) + (f".{prefix}" if path else prefix).rstrip(".")


def _unknown_networks(found):
    """The dictionaries that may be networks of unknown names: if possible those with kernels."""
    paths = [path for path in found if not any(map(NOT_WEIGHTS.search, path))]
    with_kernels = [
        path for path in paths if any(len(value.shape) > 1 for value in found[path].values())
    ]
    return [(path, "") for path in with_kernels or paths]


def _prefixes(names, marks):
    """The prefixes with which these are the names of a known network: usually one, or none."""
    found = set()
    for each in marks:
        before = [{name[: name.find(mark)] for name in names if mark in name} for mark in each]
        found |= set.intersection(*before) if before else set()
    return sorted(prefix for prefix in found if not prefix or prefix.endswith("."))


def _rank(path, prefix):
    """Smaller is better: averages, then usual names of dictionaries, then usual prefixes."""
    prefixes = prefix.split(".")[:-1]
    words = re.split(r"[._/]", ".".join([*path, prefix]).lower())
    places = [WRAPPERS.index(name) for name in path if name in WRAPPERS]
    return (
        not AVERAGES.intersection(words),
        min(places, default=len(WRAPPERS)) if path else -1,
        not PREFIXES.issuperset(prefixes),
    )


def _how_to_choose(name):
    return f"`weights='FILE#{name[:80]}'` takes {name[:80]!r}"


def _list(names):
    return list_some([repr(name[:80]) for name in names], LISTED)
