"""`keras-senet data`: what is in a dataset and what may be wrong with it, before training."""

import contextlib
import os
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_senet.cli.options import DataOptions
from keras_senet.cli.tables import make_table, say, show, show_json, status
from keras_senet.files import check_folder, printable, to_csv, write_atomically
from keras_senet.images.facts import Item
from keras_senet.images.inspection import LEFT_OUT, Inspection, Problem, inspect, list_items
from keras_senet.images.layout import read_layout
from keras_senet.images.summary import summarize
from keras_senet.progress import quiet_console, track
from keras_senet.recipes import Recipe
from keras_senet_cli import quiet

COLUMNS = ("file", "split", "class", "problem", "detail")  # of --csv
SHOWN = 30  # classes in the table: with more, those with the fewest and the most images
EXTREMES = 10
EXAMPLES = 5  # groups of duplicates


def run(options: DataOptions) -> None:
    """Prints what was found; writes the files' problems and pictures where they are asked for."""
    if options.csv:
        check_folder(Path(options.csv).absolute().parent, "--csv")
    if options.output:
        check_folder(Path(options.output), "--output")
    items, left_out = _open(options)
    if not items:
        raise ValueError(f"{options.dataset!r} has no images. {_first_reason(left_out)}")
    found = _inspect(items, left_out, options)
    summary = summarize(found, options.dataset)
    summary["training"] = _describe_training(summary["splits"])
    if not options.headers_only:
        summary["refused"] = _find_refusal(options)
    if options.json:
        show_json(summary)
    else:
        _print(summary, found)
    if options.csv:
        Path(options.csv).parent.mkdir(parents=True, exist_ok=True)
        rows = (dict(zip(COLUMNS, each, strict=True)) for each in found.problems())
        write_atomically(options.csv, to_csv(list(rows), COLUMNS))
        say(f"{options.csv}: {sum(summary['problems'].values()):,} problems, file by file")
    if options.output:
        _write_pictures(found, options)


def _open(options) -> tuple[list[Item], dict[str, str]]:
    """(the images of the dataset, the files that are left out: path -> why)."""
    if os.path.isdir(options.dataset) and _names_folder(options):
        layout = read_layout(Path(options.dataset))
        return list_items(layout), layout.left_out
    with status(f"opening {options.dataset}"), quiet():
        from keras_senet.data.items import list_dataset

        return list_dataset(options.dataset, options.data_dir), {}


def _names_folder(options):
    """Whether a folder is meant, and not a dataset of its name, which takes TensorFlow to know."""
    if os.path.basename(options.dataset) != options.dataset or options.dataset.startswith("."):
        return True
    with quiet():
        from keras_senet.data.datasets import DATASETS, names_folder

        return options.dataset not in DATASETS and names_folder(options.dataset, options.data_dir)


def _first_reason(left_out):
    return next((f"{printable(path)!r}: {reason}" for path, reason in left_out.items()), "")


def _inspect(items, left_out, options) -> Inspection:
    text = "reading headers" if options.headers_only else "decoding"
    with quiet_console() as errors:
        return inspect(
            items,
            left_out,
            decode=not options.headers_only,
            track=lambda steps, count: track(steps, errors, text, count),
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Holds back TensorFlow's messages, and warnings of files left out, which are listed."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _find_refusal(options) -> str:
    """Why `keras-senet train` refuses the dataset; "" if it does not."""
    with _silent():
        from keras_senet.training.inputs import load_images

        try:
            load_images(Recipe(dataset=options.dataset), options.data_dir)
        except (ValueError, OSError) as error:
            return " ".join(str(error).split())
    return ""


def _describe_training(splits):
    if set(splits) <= {"", "train"}:
        fraction = f"{100 * Recipe().validation_fraction:g}%"
        return (
            f"no validation images of its own: training keeps {fraction} of each class for "
            "validation (--validation-fraction)"
        )
    if "val" in splits and "test" in splits:
        return "training chooses the best epoch on val, and evaluates test once, at the end"
    chosen = "val" if "val" in splits else "test"
    return f"training evaluates each epoch on {chosen}"


def _print(summary: dict[str, Any], found: Inspection) -> None:
    _print_classes(summary)
    for line in _describe(summary):
        say(line)
    if summary["problems"]:
        _print_problems(found)
    for group in summary["duplicates"]["listed"][:EXAMPLES]:
        if group["across_splits"] or group["across_classes"]:
            kind = "one image" if group["identical"] else "nearly one image"
            say(f"{kind}: {' = '.join(_place(each) for each in group['images'])}")
    if summary.get("refused"):
        say(f"`keras-senet train` refuses it: {summary['refused']}")
    else:
        dataset, flag = shlex.quote(summary["dataset"]), " --skip-corrupt"
        options = f"--workdir run{flag if summary['unusable'] else ''}"
        say(f"next: keras-senet train --dataset {dataset} {options}")


def _place(image):
    where = ", ".join(text for text in (image["split"], image["class"]) if text)
    return f"{image['file']} ({where})"


def _print_classes(summary):
    splits, classes = list(summary["splits"]), summary["classes"]
    names = [split or "images" for split in splits]
    columns = ["class", *names, *(["all"] if len(splits) > 1 else [])]
    table = make_table(summary["dataset"], *columns)
    rows = [
        (name, *(counts.get(split, 0) for split in splits), sum(counts.values()))
        for name, counts in classes.items()
    ]
    shown = rows
    if len(rows) > SHOWN:
        ranked = sorted(rows, key=lambda row: row[-1])
        shown = [*ranked[:EXTREMES], None, *ranked[-EXTREMES:]]
    for row in shown:
        if row is None:
            table.add_row(f"... {len(rows) - 2 * EXTREMES:,} classes ...")
        else:
            table.add_row(row[0], *(f"{n:,}" for n in row[1 : len(columns)]))
    table.add_section()
    totals = [*summary["splits"].values(), summary["images"]]
    table.add_row(f"{len(rows):,} classes", *(f"{n:,}" for n in totals[: len(columns) - 1]))
    show(table)


def _describe(summary) -> Iterator[str]:
    if summary["imbalance"] > 1.5:
        yield (
            f"the largest class has {summary['imbalance']:.3g} times the images of the smallest: "
            "`train` has --class-weights and --class-balanced"
        )
    yield summary["training"]
    yield f"{_counted(summary['formats'])}; {_counted(summary['colours'])}"
    if sizes := summary["sizes"]:
        low, middle, high = (
            f"{each['width']} x {each['height']}" for each in (sizes[k] for k in ORDER)
        )
        ratios = sizes["aspect_ratio"]
        if low == high and ratios["min"] == ratios["max"]:
            yield f"width x height: {low}"
            return
        yield (
            f"width x height: smallest {low} ({sizes['smallest']['file']}), median {middle}, "
            f"largest {high} ({sizes['largest']['file']})"
        )
        yield (
            f"width / height: {ratios['min']:.2f} to {ratios['max']:.2f}, median "
            f"{ratios['median']:.2f}"
        )


ORDER = ("smallest", "median", "largest")


def _counted(counts):
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none is readable"


def _print_problems(found):
    kinds: dict[str, list[Problem]] = {}
    for each in found.problems():
        kind = f"{each.kind}: {each.detail}" if each.kind == LEFT_OUT else each.kind
        kinds.setdefault(kind, []).append(each)
    table = make_table("What to look at", "what", "images", "such as")
    table.columns[2].justify = "left"
    for kind, problems in sorted(kinds.items(), key=lambda each: -len(each[1])):
        first = problems[0]
        detail = first.detail if first.kind != LEFT_OUT else ""
        example = f"{first.file}: {detail}" if detail else first.file
        table.add_row(kind, f"{len(problems):,}", example)
    show(table)


def _write_pictures(found: Inspection, options) -> None:
    from keras_senet.plots.images import image_grid, image_sizes

    folder, name = Path(options.output), Path(options.dataset).name or options.dataset
    used = [facts for facts in found.facts if not facts.problem]
    if not used:
        raise ValueError(f"--output has no pictures: no image of {options.dataset!r} can be used")
    folder.mkdir(parents=True, exist_ok=True)
    image_sizes([(facts.width, facts.height) for facts in used], folder / "sizes.png", name)
    written = ["sizes.png"]
    if not options.headers_only:
        with _silent():
            from keras_senet.training.samples import augmented_samples, class_samples

            image_grid(class_samples(found), folder / "samples.png", name)
            written.append("samples.png")
            if options.recipe:
                rows = augmented_samples(options.recipe, options.dataset, options.data_dir)
                title = f"{name} as the recipe {options.recipe} trains on it"
                image_grid(rows, folder / "augmented.png", title)
                written.append("augmented.png")
    say(f"{folder}/: {', '.join(written)}")
