"""`keras-senet report`: a training run as one web page."""

from keras_senet.cli.evaluate import working
from keras_senet.cli.options import ReportOptions
from keras_senet.cli.tables import console, say
from keras_senet.report import write_page
from keras_senet.report.classification import SUSPECTS


def run(options: ReportOptions) -> None:
    """Writes the page, and says where it is and what it lacks."""
    with working(options.batch_size) as progress:
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
            progress=progress,
        )
    if page.missing:
        console.print(f"without {page.lacking}: {page.missing}")
    if page.suspects:
        listed = page.path.with_name(SUSPECTS)
        say(f"likely wrong labels: {page.suspects:,}, listed in {listed}")
    say(f"{page.path}: {page.path.stat().st_size / 1024:,.0f} KiB")
