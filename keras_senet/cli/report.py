"""`keras-senet report`: a training run as one web page."""

import os
from pathlib import Path

from rich.console import Console

from keras_senet.cli import console
from keras_senet_cli import quiet


def add_arguments(parser):
    """The flags of the command."""
    add = parser.add_argument
    add(
        "workdir",
        metavar="WORKDIR",
        help="what `keras-senet train` left; a run that has not ended has a page, too",
    )
    add("--output", metavar="FILE", help="default: report.html in WORKDIR")
    add("--dataset", metavar="NAME", help="digits, a tfds name or a folder; default: the run's own")
    add(
        "--split",
        default="test",
        choices=("test", "train"),
        help="of which images; default: %(default)s",
    )
    add("--data-dir", metavar="DIR", help="where tfds datasets are")
    add(
        "--batch-size",
        type=int,
        default=128,
        metavar="N",
        help="images a step; default: %(default)s",
    )
    add(
        "--no-evaluation",
        action="store_true",
        help="without what needs the dataset: confusions, classes and gates",
    )
    add("--no-gates", action="store_true", help="without the gates of the SE blocks")
    add(
        "--no-images",
        action="store_true",
        help="without images of the dataset, such as ones that are not to be shared",
    )


def run(options):
    """Writes the page, and says where it is and what it lacks."""
    from keras_senet.report import write_page

    if options.batch_size < 1:
        raise ValueError(
            f"--batch-size must be at least 1. Received: --batch-size {options.batch_size}"
        )
    if options.data_dir is not None and not Path(options.data_dir).is_dir():
        raise ValueError(f"--data-dir must be a folder. Received: --data-dir {options.data_dir}")
    # TensorFlow writes of each image that it cannot decode; the progress bar has the error stream
    # for itself.
    with open(os.dup(2), "w") as errors, quiet():
        page = write_page(
            options.workdir,
            options.output,
            dataset=options.dataset,
            split=options.split,
            data_dir=options.data_dir,
            evaluation=not options.no_evaluation,
            gates=not options.no_gates,
            thumbnails=not options.no_images,
            batch_size=options.batch_size,
            progress=Console(file=errors),
        )
    if page.missing:
        console.print(
            f"without confusions, classes and gates: {page.missing}", highlight=False, markup=False
        )
    size = page.path.stat().st_size
    console.print(
        f"{page.path}: {size / 1024:,.0f} KiB", soft_wrap=True, highlight=False, markup=False
    )
