"""`keras-senet report`: a training run as one web page."""

import os

from rich.console import Console

from keras_senet.cli.options import Report
from keras_senet.cli.tables import console
from keras_senet.report import write_page
from keras_senet_cli import quiet


def run(options: Report) -> None:
    """Writes the page, and says where it is and what it lacks."""
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
        text = f"without confusions, classes and gates: {page.missing}"
        console.print(text, highlight=False, markup=False)
    size = page.path.stat().st_size
    text = f"{page.path}: {size / 1024:,.0f} KiB"
    console.print(text, soft_wrap=True, highlight=False, markup=False)
