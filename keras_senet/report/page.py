"""write_page(): reads a run, evaluates its network, and fills the template."""

import base64
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from keras_senet.extras import require
from keras_senet.fields import check_argument
from keras_senet.files import check_folder, write_atomically
from keras_senet.report import classification, detection
from keras_senet.report.sections import Wanted
from keras_senet.report.text import FILTERS
from keras_senet.runs import CLASSIFICATION, DETECTION
from keras_senet.runs.record import read_task
from keras_senet.runs.splits import WORDS
from keras_senet_cli import __version__

TASKS = {CLASSIFICATION: classification, DETECTION: detection}


class Written(NamedTuple):
    """Where a page is, why it lacks what needs images, "" if it does not, how many likely wrong
    labels `suspects.csv` next to it has, and what needs images.
    """

    path: Path
    missing: str
    suspects: int
    lacking: str = ""


def write_page(
    workdir: str | Path,
    output: str | Path | None = None,
    *,
    dataset: str | Path | None = None,
    split: str = "test",
    data_dir: str | None = None,
    evaluation: bool = True,
    gates: bool = True,
    thumbnails: bool = True,
    batch_size: int = 128,
    progress: Any = False,
) -> Written:
    """Writes a self-contained HTML file about the training run of a classifier or a detector, and
    for a classifier `suspects.csv` next to it: the images that are likely to have a wrong label.

    A run that has not ended has its recipe and its curves so far. If the dataset is not where the
    run had it, the page is without what needs images, and says why.

    Args:
        workdir: the work directory of the run.
        output: the file; None is report.html in `workdir`.
        dataset: a name or folder that the dataset has now; None is the run's own.
        split: "test", "val", "train" or "all": the images that the network is evaluated on.
        data_dir: where tensorflow_datasets has its data.
        evaluation: whether the network is evaluated: confusions, classes and gates, or average
            precision, detections and mistakes; and figures of its own.
        gates: of a classifier, whether the SE blocks' gates are measured, on up to 1,000 images.
        thumbnails: whether the page contains images of the dataset.
        batch_size: images per step; a detector takes one.
        progress: whether to show a progress bar on the error stream; or the `rich` console for it.

    Raises:
        ValueError: for a wrong argument, a `dataset` or `data_dir` without the run's images among
            them, or if a file of the run is damaged.
        FileNotFoundError: if `workdir` holds no run.
        OSError: if the page cannot be written.
        MissingExtraError: without Jinja2, which the extra "analysis" has.
    """
    require("jinja2", "analysis")
    check_argument("split", split, split in WORDS, f"one of {', '.join(map(repr, WORDS))}")
    output = Path(workdir, "report.html") if output is None else Path(output)
    _check_output(output)
    wanted = Wanted(dataset, split, data_dir, evaluation, gates, thumbnails, batch_size, progress)
    task = TASKS.get(read_task(workdir), classification)  # which refuses other tasks
    content = task.describe_run_page(workdir, wanted)
    _write(output, content)
    return Written(output, content.page["missing"], content.suspects, content.of_images)


def _check_output(path):
    """Raises OSError unless the file can probably be written: before the long work."""
    if path.is_dir():
        raise OSError(f"`output` must be a file, and is a folder: {str(path)!r}")
    check_folder(path.parent, "The folder of `output`")


def _write(output, content):
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, _render(content))
        for name, text in content.files.items():
            write_atomically(output.with_name(name), text)
    except OSError as error:
        raise OSError(
            f"`output` cannot be written: {str(output)!r} ({error.strerror or error})"
        ) from error


def _render(content):
    """The page as text. The template engine escapes everything that comes from files."""
    jinja2 = require("jinja2", "analysis")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_senet.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= FILTERS
    script, style = (
        require("markupsafe", "analysis").Markup(
            environment.loader.get_source(environment, name)[0].strip()
        )
        for name in ("page.js", "style.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(content.template).render(
        content.page, script=script, style=style, digest=digest, version=__version__
    )
