"""`keras-senet quickstart`: SE-ResNet-20 on handwritten digits, from training to exported files."""

import dataclasses
from pathlib import Path

from keras_senet import export
from keras_senet.cli.options import QuickstartOptions
from keras_senet.cli.results import export_table
from keras_senet.cli.tables import console, show, status
from keras_senet.evaluation import evaluate
from keras_senet.extras import require
from keras_senet.plots.confusion import confusion_matrix
from keras_senet.recipes import RECIPES
from keras_senet.runs.results import add_exports, write_report
from keras_senet.training import Trainer
from keras_senet_cli import quiet

NEEDED = {
    "train": ("sklearn", "matplotlib"),
    "export": ("ai_edge_litert.interpreter", "onnx", "onnxruntime", "tf2onnx"),
}


def run(options: QuickstartOptions) -> None:
    """Trains SE-ResNet-20 on the digits, evaluates it, exports every format, and reports."""
    for extra, modules in NEEDED.items():
        for module in modules:
            require(module, extra)
    workdir = Path(options.workdir)
    with quiet():  # the first use of a device
        trainer = Trainer(dataclasses.replace(RECIPES["digits"], seed=options.seed), workdir)
    images = f"{len(trainer.train_set):,} handwritten digits"
    console.print(f"{trainer.recipe.model} on {images}; results in {workdir}/")
    trainer.train()
    test_set = trainer.test_set
    result = evaluate(trainer.model, test_set, step=trainer.prediction_step)
    confusion_matrix(
        result.confusion, test_set.class_names, workdir / "confusion.png", trainer.title
    )
    console.print(f"accuracy on the {len(test_set)} test digits: {100 * result.top1:.2f}%")
    reports = _export(trainer, workdir / "exports")
    figures = {"accuracy": float(result.top1), "loss": result.loss}
    write_report(workdir / "report.json", figures)
    add_exports(workdir / "report.json", reports)
    show(export_table(reports))


def _export(trainer, folder):
    """Each format with the normalisation in its graph, compared with Keras on all test images."""
    calibration = trainer.train_set.images[:200].astype("float32")
    int8 = {"quantization": "int8", "representative_images": calibration}
    reports = []
    for write, name, options in (
        (export.to_saved_model, "saved_model", {}),
        (export.to_tflite, "model.tflite", {}),
        (export.to_tflite, "model.int8.tflite", int8),
        (export.to_onnx, "model.onnx", {}),
    ):
        with status(f"exporting {name}"), quiet():
            report = write(
                trainer.model,
                folder / name,
                images=trainer.test_set.images.astype("float32"),
                preprocessing=trainer.model.preprocessing,
                overwrite=True,
                **options,
            )
            reports.append(report)
    return reports
