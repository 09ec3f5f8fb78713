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
from keras_senet.runs.images import open_split
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
    page = (
        NOTHING
        | describe_record(record)
        | {
            "asked": WORDS[wanted.split],
            "given_dataset": str(wanted.dataset or ""),
        }
    )
    files, suspects = {}, 0
    if record.ended:
        model = load_run(workdir)
        page |= describe_network(model)
        if wanted.evaluation:
            try:
                name = wanted.dataset or record.recipe.dataset
                split, images = open_split(
                    *(name, wanted.split, wanted.data_dir),
                    own=record.recipe.dataset,
                    division=read_division(workdir, record.recipe),
                    upright=model.preprocessing.upright,
                )
                page["asked"] = WORDS[split]
                found = predict_dataset(
                    model,
                    images,
                    with_gates=wanted.gates,
                    batch_size=wanted.batch_size,
                    progress=wanted.progress,
                )
                page |= describe_predictions(found, model, images, wanted.thumbnails)
                page |= {"gates_asked": wanted.gates}
                rows = suspect_rows(found, images)
                files[SUSPECTS], suspects = to_csv(rows, SUSPECT_COLUMNS), len(rows)
            except (ValueError, OSError, ImportError) as error:
                page["missing"] = wanted.explain(error)
    return PageContent("classification.html", page, OF_IMAGES, files, suspects)
