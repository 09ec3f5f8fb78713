"""`keras-senet detect train`: a recipe on images with boxes; the same command continues it."""

import math
import os
from typing import Any

from keras_senet import detection
from keras_senet.cli.next_steps import say, shell_command
from keras_senet.cli.options.detection import DetectTrainOptions
from keras_senet.cli.train import split_cpu, train_to_end
from keras_senet.cpu import finds_gpu
from keras_senet.extras import require
from keras_senet.runs.load import is_run
from keras_senet.training.backends.tensorflow import run_in_turn


def run(options: DetectTrainOptions) -> None:
    """Trains, continues or extends a run."""
    split_cpu(options.logical_cpus)
    if options.logical_cpus is None and "TF_CONFIG" not in os.environ and not finds_gpu():
        run_in_turn()
    require("pycocotools", "detection")  # before training: each epoch is evaluated
    if not is_run(options.workdir):
        _say_rate(options)
    trainer = detection.Trainer(
        options.recipe, options.workdir, **options.trainer, **options.checkpoints
    )
    last = train_to_end(trainer, options)
    state = _figures(trainer, last) if last else "stopped before the end of an epoch"
    say(f"{trainer.title}: {state}; results in {options.workdir}/")
    if not options.quiet:
        _say_next(trainer, last, options)


def _say_rate(options):
    """What the linear rule says, where the batch size is another and the rate is not given."""
    if "learning_rate" in options.changed:
        return
    if advice := options.base.describe_rate(options.recipe.batch_size):
        say(advice)


def _figures(trainer, last):
    """AP and AP50 of the last epoch, and those of the best one if that is another."""
    if not math.isfinite(last["ap"]):
        return f"loss {last['loss']:.4f}"
    text = f"AP {last['ap']:.3f}, AP50 {last['ap50']:.3f}"
    rows = [row for row in trainer.workdir.metrics.read() if math.isfinite(row["ap"])]
    best = max(rows, key=lambda row: row["ap"])
    if best["epoch"] != last["epoch"]:
        text += f"; best.safetensors: AP {best['ap']:.3f}, epoch {best['epoch']:.0f}"
    return text


def _say_next(trainer: Any, last: Any, options: DetectTrainOptions) -> None:
    """The commands that go on from here."""
    where = ("--data-dir", options.data_dir) if options.data_dir else ()
    workdir, epochs = options.workdir, trainer.recipe.epochs
    train = ("detect", "train", "--workdir", workdir)
    if last is None or last["step"] < trainer.steps:
        say(f"to continue: {shell_command(*train, *where)}")
        return
    if trainer.began_at == trainer.steps:
        more = shell_command(*train, "--epochs", 2 * epochs, *where)
        say(f"this run had all of its {epochs} epochs before; to extend it: {more}")
    commands = (
        shell_command("detect", "evaluate", "--workdir", workdir, *where),
        shell_command("detect", "predict", "IMAGE.jpg", "--workdir", workdir),
        shell_command("detect", "export", workdir),
        shell_command("report", workdir, *where),
    )
    say(f"next: {'; '.join(commands)}")
