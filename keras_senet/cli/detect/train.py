"""`keras-senet detect train`: a recipe on images with boxes; the same command continues it."""

import math
import os

from keras_senet import detection
from keras_senet.cli.options.detection import DetectTrainOptions
from keras_senet.cli.tables import say
from keras_senet.cli.train import say_next, split_cpu, train_to_end
from keras_senet.cpu import finds_gpu
from keras_senet.extras import require
from keras_senet.runs.load import is_run
from keras_senet.runs.tables import best_by
from keras_senet.training.backends import load_backend


def run(options: DetectTrainOptions) -> None:
    """Trains, continues or extends a run."""
    split_cpu(options.logical_cpus)
    if options.logical_cpus is None and "TF_CONFIG" not in os.environ and not finds_gpu():
        load_backend().run_in_turn()
    require("pycocotools", "detection")  # before training: each epoch is evaluated
    if not is_run(options.workdir):
        _say_rate(options)
    trainer = detection.Trainer(
        options.recipe, options.workdir, **options.trainer, **options.checkpoints
    )
    last = train_to_end(trainer, options)
    state = _figures(trainer, last) if last else "stopped before the end of an epoch"
    say(f"{trainer.title}: {state}; results in {options.workdir}/")
    run, where = options.workdir, options.where
    evaluate = ("detect", "evaluate", "--workdir", run, *where)
    predict = ("detect", "predict", "IMAGE.jpg", "--workdir", run)
    export, report = ("detect", "export", run), ("report", run, *where)
    say_next(trainer, last, options, evaluate, predict, export, report)


def _say_rate(options):
    """What the linear rule says, where the batch size is another and the rate is not given."""
    if "learning_rate" in options.changed:
        return
    if advice := options.base.describe_rate(options.recipe.batch_size):
        say(advice)


def _figures(trainer, last):
    if not math.isfinite(last["ap"]):
        return f"loss {last['loss']:.4f}"
    text = f"AP {last['ap']:.3f}, AP50 {last['ap50']:.3f}"
    best = best_by(trainer.workdir.metrics.read(), "ap")
    if best is not None and best["epoch"] != last["epoch"]:
        text += f"; best.safetensors: AP {best['ap']:.3f}, epoch {best['epoch']:.0f}"
    return text
