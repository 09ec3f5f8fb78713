"""`keras-senet excitations`: the gates of a network on a dataset, as tables and pictures."""

import numpy as np
from rich import box

from keras_senet.analysis import excitation_tables
from keras_senet.analysis.excitations import excitations, find_classes
from keras_senet.cli.evaluate import output_folder, working
from keras_senet.cli.network import load_networks, open_images, results_folder
from keras_senet.cli.options import ExcitationsOptions
from keras_senet.cli.tables import console, make_table, print_left_out, show, show_json
from keras_senet.data.sources import select_evenly
from keras_senet.files import replacing, write_atomically
from keras_senet.imagenet import readable
from keras_senet.plots import excitations as plots
from keras_senet.training.inputs import count_classes

SHOWN = 4  # classes by default: as many as in the paper


def run(options: ExcitationsOptions) -> None:
    """The statistics of each SE block on a dataset; with a folder for them also files."""
    (loaded,) = load_networks(options)
    name, model = loaded.name, loaded.model
    own = results_folder(options.sources)
    output = output_folder(options.output or (own and own / "excitations"), "analysis")
    upright = model.preprocessing.upright
    dataset_name, split, dataset = open_images(options, loaded, upright=upright)
    if options.classes:  # before long work; labels are another reading of large datasets
        _shown(options.classes, dataset.class_names, count_classes(dataset))
    with working(options.batch_size) as progress:
        result = excitations(
            model,
            dataset,
            batch_size=options.batch_size,
            skip_corrupt=options.skip_corrupt,
            progress=progress,
        )
    rows = excitation_tables.statistics(result)
    title = f"{name} on {result.images:,} images of {dataset_name}, {split}"
    if options.json:
        show_json([row._asdict() for row in rows])
    else:
        _print(title, rows, result.skipped)
    shown = _shown(options.classes, result.class_names, result.class_images)
    if output:
        _write(output, title, result, rows, shown)


def _shown(names, class_names, images):
    """The classes that pictures show: those that are named or, without names, four of those that
    have images.

    Raises:
        ValueError: for a name of no class, or of one without images.
    """
    if names is None:
        there = np.flatnonzero(images)
        return there[select_evenly(len(there), SHOWN)].tolist()
    try:
        classes = find_classes(names, class_names)
    except ValueError as error:
        raise ValueError(f"--classes: {error}") from error
    for k in classes:
        if not images[k]:
            raise ValueError(
                f"--classes: there are no images of {class_names[k]!r} that can be used"
            )
    return classes


def _print(title, rows, skipped):
    columns = (
        "block",
        "gates",
        "mean",
        "std",
        "class",
        "< 0.1",
        "> 0.9",
        "const",
        "from 1",
        "vary",
    )
    table = make_table(title, *columns)
    table.box, table.padding = box.SIMPLE_HEAD, (0, 0)  # ten columns in 80 characters
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        figures = (row.mean, row.std, row.specificity, row.closed, row.opened, row.constant)
        figures = (*figures, row.from_identity, row.variation)
        table.add_row(
            row.block, f"{row.channels:,}", *("-" if n is None else f"{n:.3f}" for n in figures)
        )
    show(table)
    console.print(
        "class: fraction of the gates' variance between classes; "
        "const: fraction of the channels that hardly change"
    )
    console.print(
        "from 1: mean |gate - 1|; vary: relative error of the gates if each channel's were its mean"
    )
    if any(row.specificity is None for row in rows):
        console.print("-: not known, as it takes two images each of two classes or more")
    print_left_out(each.name for each in skipped)


def _write(folder, title, result, rows, classes):
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "statistics.csv", excitation_tables.statistics_csv(rows))
    write_atomically(folder / "gates.csv", excitation_tables.class_csv(result, classes))
    with replacing(folder / "gates.npz") as path:
        np.savez(path, **excitation_tables.arrays(result))
    plots.excited_classes(result, classes, folder / "classes.png", title)
    plots.excited_instances(result, classes[:2], folder / "instances.png", title)
    plots.overview(rows, folder / "blocks.png", title)
    shown = ", ".join(readable(result.class_names)[k] for k in classes)
    console.print(
        f"{folder}/: statistics.csv, gates.csv, gates.npz, classes.png, instances.png, blocks.png"
    )
    console.print(f"classes in the pictures and in gates.csv: {shown}")
