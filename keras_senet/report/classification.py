"""The page of a classifier's run."""

from pathlib import Path

from keras_senet.files import to_csv
from keras_senet.report.image_sections import describe_predictions, suspect_rows
from keras_senet.report.predictions import predict_dataset
from keras_senet.report.sections import (
    PageContent,
    Wanted,
    describe_network,
    describe_record,
)
from keras_senet.runs.images import load_for_run
from keras_senet.runs.load import load_run
from keras_senet.runs.record import read_division, read_record
from keras_senet.runs.splits import WORDS

OF_IMAGES = "confusions, classes and gates"
# What a page without images does not show
NOTHING = dict.fromkeys(
    (
        *("complexity", "figures", "gates", "gates_asked", "looks", "missing", "pairs", "result"),
        "suspects",
    ),
    "",
)
SUSPECTS = "suspects.csv"
SUSPECT_COLUMNS = ("file", "label", "predicted", "label_probability", "predicted_probability")


def describe_run_page(workdir: str | Path, wanted: Wanted) -> PageContent:
    """The `PageContent` of the page; with images also `suspects.csv`, the images that are likely to
    have a wrong label. Raises as `write_page` does.
    """
    record = read_record(workdir)
    page = NOTHING | describe_record(record)
    page |= {"asked": WORDS[wanted.split], "given_dataset": str(wanted.dataset or "")}
    if record.ended:
        model = load_run(workdir)
        page |= describe_network(model)
        page |= wanted.describe_images(lambda: _describe_images(model, record, workdir, wanted))
    files, rows = {}, page.pop("suspect_rows", None)
    if rows is not None:
        files[SUSPECTS] = to_csv(rows, SUSPECT_COLUMNS)
    return PageContent("classification.html", page, OF_IMAGES, files, len(rows or ()))


def _describe_images(model, record, workdir, wanted):
    _, split, images = load_for_run(
        wanted.dataset or record.recipe.dataset,
        wanted.split,
        wanted.data_dir,
        own=record.recipe.dataset,
        division=read_division(workdir, record.recipe),
        upright=model.preprocessing.upright,
        class_names=getattr(model, "class_names", None),
    )
    found = predict_dataset(
        model,
        images,
        with_gates=wanted.gates,
        batch_size=wanted.batch_size,
        progress=wanted.progress,
    )
    return describe_predictions(found, model, images, wanted.thumbnails) | {
        "asked": WORDS[split],
        "gates_asked": wanted.gates,
        "suspect_rows": suspect_rows(found, images),
    }
