"""`keras-senet export`: a network in every format, each file run and compared before it is kept."""

import dataclasses
from pathlib import Path

from keras_senet import export
from keras_senet.cli import export_all
from keras_senet.cli.network import load_network, results_folder
from keras_senet.cli.next_steps import say
from keras_senet.cli.options import ExportOptions
from keras_senet.cli.results import export_table
from keras_senet.cli.tables import console, show, show_json
from keras_senet.export.files import FORMATS, plan_files
from keras_senet.export.images import images_for
from keras_senet.runs.results import merge_exports, read_report, write_report
from keras_senet_cli import quiet


def run(options: ExportOptions) -> None:
    """Writes the files and `report.json`, and prints how they compare with Keras."""
    if options.all:
        export_all.run(options)
        return
    plan = plan_files(options.format or list(FORMATS), options.quantization)
    model = load_network(options.source, options.weights, options.size).model
    own = results_folder((options.source,))
    folder = Path(options.output or (own / "exports" if own else "exports"))
    report = folder / "report.json"
    earlier = read_report(report)
    for each in plan:
        each.check_free(folder, options.overwrite)
    images = (
        None
        if options.calibration is None
        else images_for(model, options.calibration, options.data_dir)
    )
    reports = []
    for each in plan:
        with console.status(f"exporting {each.name}"), quiet():
            reports.append(
                each.write(
                    model,
                    folder,
                    images=None if images is None else each.compared(images),
                    calibration=images,
                    class_names=getattr(model, "class_names", None),
                    overwrite=options.overwrite,
                )
            )
    write_report(report, merge_exports(earlier, reports))
    if options.json:
        show_json([dataclasses.asdict(each) for each in reports])
    else:
        show(export_table(reports))
        say(f"how to run them: {Path(export.__file__).with_name('README.md')}")
