"""`keras-senet prune`: a network without some of its SE blocks or channels, with what that saves
and costs.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from keras_senet import models
from keras_senet.analysis.comparison import Cost, cost
from keras_senet.analysis.means import mean_gates, subsample
from keras_senet.analysis.pruning import prunable, prune, rank_channels
from keras_senet.analysis.removal import choose, remove_se, se_blocks
from keras_senet.cli.evaluate import output_folder, working
from keras_senet.cli.network import Loaded, load_networks, open_images
from keras_senet.cli.options import PruneOptions
from keras_senet.cli.tables import console, make_table, show, show_json
from keras_senet.complexity import complexity
from keras_senet.files import replacing, to_csv, write_atomically
from keras_senet.plots.pruning import PrunedNetwork, pruned_networks
from keras_senet.weights.metadata import describe
from keras_senet_cli import quiet


@dataclass(frozen=True)
class PrunedVariant:
    """One network to make of the original.

    kind is "original", "removed", "constant", "gates" or "random"; keep the fraction of the
    channels that stays.
    """

    name: str
    kind: str
    build: Callable
    stages: tuple[int, ...] | None = None
    keep: float | None = None


@dataclass(frozen=True)
class Measured:
    """A variant with its cost; `file` is the network's in the output folder, or ""."""

    variant: PrunedVariant
    cost: Cost
    file: str = ""

    @property
    def label(self):
        """The variant's name; one for all draws."""
        return re.sub(r"-random-\d+$", "-random", self.variant.name)

    @property
    def error(self):
        """The top-1 error in percent, or None."""
        return None if self.cost.top1 is None else 100 * (1 - self.cost.top1)


def run(options: PruneOptions) -> None:
    """Makes, counts and evaluates each variant; writes them, tables and a picture into a folder."""
    loaded = _load(options)
    name, weights, model = loaded[:3]
    _check(options, model)
    upright = model.preprocessing.upright
    dataset_name, split, dataset = None, options.split, None
    if not options.count_only:
        dataset_name, split, dataset = open_images(options, loaded, upright=upright)
    images = _ranking_images(options, loaded)
    output = output_folder(options.output, "analysis")
    plain = complexity(remove_se(model))
    rows = []
    with working(options.batch_size) as progress:
        for variant in _variants(options, model, images, progress):
            network = variant.build(model)
            file = _save(network, output, variant)
            counts = cost(network, dataset, batch_size=options.batch_size, progress=progress)
            rows.append(Measured(variant, counts, file))
    title = name
    if dataset is not None:
        title = f"{name}: top-1 error on {rows[0].cost.images:,} images of {dataset_name}, {split}"
    about = {
        "network": name,
        "weights": weights,
        "dataset": dataset_name,
        "division": loaded.division,
        "split": split,
        "ranked_by": options.images,
        "preprocessing": describe(model.preprocessing),
        "plain": {"parameters": plain.parameters, "multiply_adds": plain.multiply_adds},
        "variants": [_figures(row, plain) for row in rows],
    }
    if options.json:
        show_json(about)
    else:
        show(_table(title, rows, plain))
    if output:
        _write(output, title, rows, about)


def _check(options, model):
    """Raises ValueError for a network without what is to be removed."""
    blocks = se_blocks(model)
    try:
        for stages in options.remove_se:
            choose(blocks, stages or None)
    except ValueError as error:
        raise ValueError(f"--remove-se: {error}") from error
    if options.keep:
        prunable(model)


def _load(options):
    """The network and the name of its dataset; only to count it needs no weights."""
    (source,) = options.sources
    if options.count_only and source.kind == "constructor" and not options.weights:
        with quiet():
            model = models.get(source.text)(weights=None)
        return Loaded(source.text, None, model, None)
    (loaded,) = load_networks(options)
    return loaded


def _ranking_images(options, loaded):
    """The training images that means are taken over, or None where none are needed."""
    if options.count_only or not (options.constant or options.keep):
        return None
    upright = loaded.model.preprocessing.upright
    images = open_images(options, loaded, upright=upright, split="train").images
    return subsample(images, options.images)


def _variants(options, model, images, progress):
    """The original, then what the options ask for, each ready to be built."""
    gates, ranking = None, "random"
    if options.constant:
        gates = {
            b.name: gate
            for b, gate in mean_gates(model, se_blocks(model), images, progress=progress).items()
        }
    if options.keep and images is not None:
        ranking = rank_channels(model, images, progress=progress)
    yield PrunedVariant("original", "original", lambda network: network)
    for stages in dict.fromkeys(map(tuple, options.remove_se)):
        yield from _without(stages, gates)
    for keep in dict.fromkeys(options.keep):
        yield from _smaller(keep, ranking, options.baseline)


def _without(stages, gates):
    name = "-".join(["no-se", *map(str, stages)])
    chosen = stages or None
    yield PrunedVariant(name, "removed", partial(remove_se, stages=chosen), stages)
    if gates is not None:
        build = partial(remove_se, stages=chosen, constant_from=gates)
        yield PrunedVariant(f"{name}-mean", "constant", build, stages)


def _smaller(keep, ranking, baseline):
    kind = "random" if ranking == "random" else "gates"
    name = f"keep-{str(keep).removesuffix('.0')}"
    yield PrunedVariant(name, kind, partial(prune, keep=keep, ranking=ranking), keep=keep)
    for seed in range(baseline):
        build = partial(prune, keep=keep, ranking="random", seed=seed)
        yield PrunedVariant(f"{name}-random-{seed}", "random", build, keep=keep)


def _save(network, folder, variant):
    """Writes the network as `.keras`, unless original or baseline; returns its name or ""."""
    if folder is None or variant.kind in ("original", "random"):
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{variant.name}.keras") as partial:
        network.save(partial)
    return f"{variant.name}.keras"


def _table(title, rows, plain):
    """What is left and what it costs; of randomly drawn channels the mean error of the draws."""
    table = make_table(
        title, "network", "parameters", "vs plain", "multiply-adds", "error", "change"
    )
    for column in table.columns:
        column.no_wrap = True
    original = rows[0]
    for label, group in itertools.groupby(rows, key=lambda row: row.label):
        group = list(group)
        counts, errors = group[0].cost, [row.error for row in group if row.error is not None]
        over = 100 * (counts.parameters / plain.parameters - 1)
        shown = ("-", "-")
        if errors:
            error = sum(errors) / len(errors)
            shown = (f"{error:.2f}%", f"{error - original.error:+.2f}")
        table.add_row(
            label, f"{counts.parameters:,}", f"{over:+.1f}%", f"{counts.multiply_adds:,}", *shown
        )
    return table


def _write(folder, title, rows, report):
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "pruning.csv", to_csv(report["variants"]))
    write_atomically(folder / "pruning.json", json.dumps(report, indent=2) + "\n")
    written = ["pruning.csv", "pruning.json"]
    if rows[0].error is not None:
        networks = [
            PrunedNetwork(
                row.variant.kind,
                row.error,
                row.cost.multiply_adds,
                row.variant.keep,
                row.variant.stages,
            )
            for row in rows
        ]
        pruned_networks(networks, folder / "pruning.png", title)
        written.append("pruning.png")
    files = [row.file for row in rows if row.file]
    console.print(f"{folder}/: {', '.join([*written, *files])}")


def _figures(row, plain):
    return {
        "network": row.variant.name,
        "kind": row.variant.kind,
        "keep": row.variant.keep,
        **dataclasses.asdict(row.cost),
        "parameters_over_plain": row.cost.parameters / plain.parameters - 1,
        "file": row.file,
    }
