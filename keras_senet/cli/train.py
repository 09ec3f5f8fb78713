"""`keras-senet train`: a recipe on a dataset; the same command continues it."""

import math
import sys
from pathlib import Path

from keras_senet.cli.options import TrainOptions
from keras_senet.cli.results import show_classes
from keras_senet.cli.tables import console
from keras_senet.evaluation import per_class
from keras_senet.runs.record import read_engine
from keras_senet.runs.splits import WORDS, evaluated
from keras_senet.training.signals import Terminated


def run(options: TrainOptions) -> None:
    """Trains, or continues to train."""
    if options.logical_cpus:
        _split_cpu(options.logical_cpus)
    trainer = _make_trainer(options)
    try:
        last = trainer.train()
    except Terminated as error:
        print(f"keras-senet train: {error}", file=sys.stderr)
        raise
    _report(trainer, last, options.workdir)


def _make_trainer(options: TrainOptions):
    common = {
        "verbose": not options.quiet,
        "data_dir": options.data_dir,
        "max_steps": options.max_steps,
        "evaluate_epochs": options.evaluate_epochs,
        "tensorboard": options.tensorboard,
        "lower_batch": "batch_size" not in options.changed,
    }
    if (options.engine or read_engine(options.workdir)) == "fit":
        from keras_senet.training.fit import FitTrainer

        return FitTrainer(options.recipe, options.workdir, **common)
    from keras_senet.training.trainer import Trainer

    return Trainer(
        options.recipe,
        options.workdir,
        strategy=options.strategy,
        checkpoint_steps=options.checkpoint_steps,
        checkpoint_minutes=options.checkpoint_minutes,
        keep=options.keep,
        skip_corrupt=options.skip_corrupt,
        **common,
    )


def _split_cpu(count):
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, devices)


def _report(trainer, last, workdir):
    if trainer.skipped:
        listed = Path(workdir) / "skipped.csv"
        console.print(f"images left out: {len(trainer.skipped)}, listed in {listed}")
    state = _errors(trainer, last) if last else "stopped before the end of an epoch"
    if trainer.evaluated:
        split, result = trainer.evaluated
        images = {"test": trainer.final_set, trainer.split: trainer.test_set}[split]
        show_classes(per_class(result, images.class_names), result.balanced_accuracy, split)
    console.print(f"{trainer.title}: {state}; results in {workdir}/")


def _errors(trainer, last):
    """The error of the last epoch, and of test images that were evaluated at the end."""
    split = trainer.split if math.isfinite(last[f"{trainer.split}_accuracy"]) else ""
    name = f"{split}_accuracy" if split else "accuracy"
    text = f"{100 * (1 - last[name]):.2f}% {WORDS[split or 'train']} error"
    if trainer.final_set is None:
        return text
    for row in evaluated(trainer.workdir.metrics.read(), "test"):
        chosen, test = (100 * (1 - row[f"{each}_accuracy"]) for each in (trainer.split, "test"))
        text += f"; epoch {row['epoch']:.0f}: {chosen:.2f}%, and {test:.2f}% test error"
    return text
