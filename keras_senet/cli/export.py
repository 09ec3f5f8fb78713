"""`keras-senet export`: a network in every format, each file run and compared before it is kept."""

import dataclasses
from pathlib import Path

from keras_senet import data
from keras_senet.cli import export_all
from keras_senet.cli.network import load_network
from keras_senet.cli.options import ExportOptions
from keras_senet.cli.results import export_table
from keras_senet.cli.tables import console, show, show_json
from keras_senet.export.files import FORMATS, plan_files
from keras_senet.export.images import images_for
from keras_senet.runs.load import is_run, load_run, results_folder
from keras_senet.runs.results import merge_exports, read_report, write_report
from keras_senet_cli import quiet


def run(options: ExportOptions) -> None:
    """Writes the files and `report.json`, and prints how they compare with Keras."""
    if options.all:
        export_all.run(options)
        return
    (name,) = options.model
    plan = plan_files(options.format or list(FORMATS), options.quantization)
    with console.status(f"loading {name}"), quiet():
        model, class_names, folder = _load(name, options)
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
                    class_names=class_names,
                    overwrite=options.overwrite,
                )
            )
    write_report(report, merge_exports(earlier, reports))
    if options.json:
        show_json([dataclasses.asdict(each) for each in reports])
    else:
        show(export_table(reports))


def _load(name, options):
    """(the network, its classes' names or None, the folder for its files)."""
    if not is_run(name):
        model = load_network(name, options.weights or "imagenet", options.size)
        return model, None, Path(options.output or "exports")
    if options.weights is not None:
        raise ValueError(
            f"--weights is not for a run, which has its own. Received: --weights {options.weights}"
        )
    if options.size is not None:
        raise ValueError("--size is not for a run, whose network has its own")
    found = load_run(name)
    try:
        images = data.load(found.dataset, "test", options.data_dir, **found.division)
        class_names = images.class_names
    except (ValueError, OSError, ImportError):
        class_names = None  # the run's images are elsewhere
    return (
        found.model,
        class_names,
        Path(options.output or results_folder(name) / "exports"),
    )
