"""`keras-senet train`: a recipe on a dataset; the same command continues it."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_senet.cli.options import TrainOptions
from keras_senet.cli.options.training import RunOptions
from keras_senet.cli.results import show_classes
from keras_senet.cli.tables import console, say, shell_command
from keras_senet.evaluation import per_class
from keras_senet.runs.load import is_run
from keras_senet.runs.record import describe_recipe, read_engine
from keras_senet.runs.splits import WORDS, best_row, chosen_on
from keras_senet.runs.tables import rows_with
from keras_senet.training.signals import Terminated


def run(options: TrainOptions) -> None:
    """Trains, continues or extends a run; or tries learning rates for it."""
    split_cpu(options.logical_cpus)
    chosen = "" if is_run(options.workdir) else options.recipe.chosen
    run = _find_rate if options.find_rate else _train
    run(options, f"recipe: {chosen}; {describe_recipe(options.recipe)}" if chosen else None)


def _train(options, choice):
    trainer = _make_trainer(options)
    if choice:  # after images and weights have been looked at
        say(choice)
    last = train_to_end(trainer, options)
    _report(trainer, last, options.workdir)
    predict = ("predict", "IMAGE.jpg", "--workdir", options.workdir)
    report = ("report", options.workdir, *options.where)
    say_next(trainer, last, options, predict, report, ("export", options.workdir))


def train_to_end(trainer: Any, options: RunOptions) -> Any:
    """The last row of the metrics; where training is stopped, says how to continue."""
    try:
        return trainer.train()
    except (Terminated, KeyboardInterrupt) as error:
        if isinstance(error, Terminated):
            print(f"keras-senet {' '.join(options.COMMAND)}: {error}", file=sys.stderr)
        if not options.quiet:
            print(f"to continue: {shell_command(*_words(options))}", file=sys.stderr)
        raise


def _words(options):
    return options.arguments or ("train", "--workdir", options.workdir)


def _find_rate(options, choice):
    from keras_senet.training.rate_finder import find_rate

    found = find_rate(
        options.recipe, options.workdir, data_dir=options.data_dir, verbose=not options.quiet
    )
    if found.suggestion is None:
        raise ValueError(
            "The loss fell clearly at none of the learning rates that were tried; "
            f"{options.workdir}/rates.csv has them"
        )
    rate = f"{found.suggestion:.2g}"
    if choice:
        say(choice)
    say(f"learning rate {rate}: there the loss fell fastest ({options.workdir}/rates.png)")
    words = [word for word in _words(options) if word != "--find-rate"]
    more = ["--learning-rate", rate]
    if is_run(options.workdir):
        more += ["--epochs", options.recipe.epochs + 10, "--restart"]
    if not options.quiet:
        say(f"to use it: {shell_command(*words, *more)}")


def _make_trainer(options: TrainOptions):
    common = {**options.trainer, "restart": options.restart}
    if (options.engine or read_engine(options.workdir)) == "fit":
        from keras_senet.training.fit import FitTrainer

        return FitTrainer(options.recipe, options.workdir, **common)
    from keras_senet.training.trainer import Trainer

    return Trainer(
        options.recipe,
        options.workdir,
        skip_corrupt=options.skip_corrupt,
        **options.checkpoints,
        **common,
    )


def split_cpu(count: int | None) -> None:
    """Makes so many devices of the CPU; None leaves it as it is."""
    if count is not None:
        from keras_senet.training.backends import load_backend

        load_backend().split_cpu(count)


def _report(trainer, last, workdir):
    if trainer.skipped:
        listed = Path(workdir) / "skipped.csv"
        console.print(f"images left out: {len(trainer.skipped)}, listed in {listed}")
    state = _errors(trainer, last) if last else "stopped before the end of an epoch"
    if trainer.evaluated:
        split, result = trainer.evaluated
        images = {"test": trainer.final_set, trainer.split: trainer.test_set}[split]
        show_classes(per_class(result, images.class_names), result.balanced_accuracy, split)
    say(f"{trainer.title}: {state}; results in {workdir}/")


def _errors(trainer, last):
    """The errors of the last epoch, of the best one, and of test images evaluated at the end."""
    split = trainer.split if math.isfinite(last[f"{trainer.split}_accuracy"]) else ""
    name = f"{split}_accuracy" if split else "accuracy"
    text = f"{100 * (1 - last[name]):.2f}% {WORDS[split or 'train']} error"
    rows = trainer.workdir.metrics.read()
    if trainer.final_set is None:
        best = best_row(rows)
        if best is not None and best["epoch"] != last["epoch"]:
            error = 100 * (1 - best[f"{chosen_on(rows)}_accuracy"])
            text += f"; best.weights.h5: {error:.2f}%, epoch {best['epoch']:.0f}"
        return text
    # A run that was extended may have more than one: the last one is of its network.
    for row in rows_with(rows, "test_accuracy")[-1:]:
        chosen, test = (100 * (1 - row[f"{each}_accuracy"]) for each in (trainer.split, "test"))
        text += f"; epoch {row['epoch']:.0f}: {chosen:.2f}%, and {test:.2f}% test error"
    return text


def say_next(trainer: Any, last: Any, options: RunOptions, *commands: Sequence[str]) -> None:
    """Prints the commands that go on from here: to train on, or those that follow training."""
    if options.quiet:
        return
    train, epochs = (*options.COMMAND, "--workdir", options.workdir), trainer.recipe.epochs
    if last is None or last["step"] < trainer.steps:
        say(f"to continue: {shell_command(*train, *options.where)}")
        return
    if trainer.began_at == trainer.steps:
        more = shell_command(*train, "--epochs", 2 * epochs, *options.where)
        say(f"this run had all of its {epochs} epochs before; to extend it: {more}")
    say(f"next: {'; '.join(shell_command(*each) for each in commands)}")
