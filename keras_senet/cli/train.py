"""`keras-senet train`: a recipe, its fields as flags, and how it is run."""

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import get_args, get_origin

from rich.console import Console

from keras_senet.data import Augmentation
from keras_senet.recipes.named import RECIPES
from keras_senet.recipes.recipe import Recipe
from keras_senet.runs.splits import WORDS, evaluated
from keras_senet.training.signals import Terminated

NOT_FLAGS = ("augmentation", "source", "result")


def add_arguments(parser):
    """The engine's own flags, then one for each field of a recipe."""
    parser.add_argument(
        "--workdir",
        required=True,
        help="where the run is left, and continued if it was begun there",
    )
    parser.add_argument(
        "--data-dir", help="where tensorflow_datasets has its data; default: its own"
    )
    parser.add_argument(
        "--engine", choices=("trainer", "fit"), default="trainer", help="`fit` is Keras' own loop"
    )
    parser.add_argument(
        "--strategy",
        choices=("auto", "none", "mirrored"),
        default="auto",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--logical-cpus", type=int, help="split the CPU, to try `--strategy mirrored` without GPUs"
    )
    parser.add_argument("--max-steps", type=int, help="stop behind this step of the run")
    parser.add_argument(
        "--checkpoint-steps", type=int, default=0, help="also save every N steps; default: never"
    )
    parser.add_argument(
        "--checkpoint-minutes", type=float, default=10.0, help="also by time; default: %(default)s"
    )
    parser.add_argument(
        "--keep", type=int, default=2, help="checkpoints that are kept; default: %(default)s"
    )
    parser.add_argument(
        "--evaluate-epochs",
        type=int,
        default=1,
        help="how often; 0: at the end; default: %(default)s",
    )
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out images that cannot be used, and list them",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files for TensorBoard"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_recipe_arguments(parser)


def add_recipe_arguments(parser, besides=()):
    """`--recipe`, and a flag for each of its fields but those `besides`; `recipe_of` reads them."""
    parser.add_argument(
        "--recipe", required=True, metavar="NAME", help=f"one of {', '.join(RECIPES)}"
    )
    fields = parser.add_argument_group("fields of the recipe, to change them")
    documented = meanings(Recipe) | meanings(Augmentation)
    for each in (*dataclasses.fields(Recipe), *dataclasses.fields(Augmentation)):
        if each.name not in (*NOT_FLAGS, *besides):
            _add_flag(fields, each, documented.get(each.name))


def _add_flag(group, field, meaning):
    options = {
        "dest": f"field_{field.name}",
        "default": None,
        "help": meaning and meaning.replace("%", "%%"),
    }
    flag = "--" + field.name.replace("_", "-")
    if field.type is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
    else:
        kind, metavar = (
            (_numbers(field.type), "N,N,...") if get_origin(field.type) else (field.type, None)
        )
        group.add_argument(flag, type=kind, metavar=metavar or kind.__name__.upper(), **options)


def _numbers(of):
    """What reads a tuple of numbers that are joined by commas."""
    (kind, _) = get_args(of)

    def read(text):
        return tuple(kind(part) for part in text.split(",") if part)

    read.__name__ = "list of numbers"  # for argparse's message
    return read


def meanings(cls):
    """What the docstring of a dataclass says of each field, in one line."""
    names, found, name = {each.name for each in dataclasses.fields(cls)}, {}, None
    for line in (cls.__doc__ or "").splitlines():
        first, _, rest = line.strip().partition(" ")
        if first in names and rest.startswith(" "):
            name = first
            found[name] = rest.strip()
        elif name and line.startswith(" " * 8) and line.strip():
            found[name] += " " + line.strip()
        else:
            name = None
    return found


def recipe_of(options):
    """The recipe that the options name, with the fields that they change."""
    if options.recipe not in RECIPES:
        raise ValueError(
            f"--recipe must be one of {', '.join(RECIPES)}. Received: --recipe {options.recipe}"
        )
    given = {name[6:]: value for name, value in vars(options).items() if name.startswith("field_")}
    return RECIPES[options.recipe].override(
        **{name: value for name, value in given.items() if value is not None}
    )


def run(options):
    """Trains, or continues to train."""
    _check(options)
    recipe = recipe_of(options)
    if options.logical_cpus:
        _split_cpu(options.logical_cpus)
    if options.engine == "fit":
        from keras_senet.training.fit import FitTrainer as Engine

        own = {}
    else:
        from keras_senet.training.trainer import Trainer as Engine

        own = {
            "strategy": options.strategy,
            "checkpoint_steps": options.checkpoint_steps,
            "checkpoint_minutes": options.checkpoint_minutes,
            "keep": options.keep,
            "skip_corrupt": options.skip_corrupt,
        }
    trainer = Engine(
        recipe,
        options.workdir,
        verbose=not options.quiet,
        data_dir=options.data_dir,
        max_steps=options.max_steps,
        evaluate_epochs=options.evaluate_epochs,
        tensorboard=options.tensorboard,
        **own,
    )
    try:
        last = trainer.train()
    except Terminated as error:
        print(f"keras-senet train: {error}", file=sys.stderr)
        raise
    _tell(trainer, last, options)


def _check(options):
    for name, least in (
        ("max_steps", 1),
        ("checkpoint_steps", 0),
        ("keep", 1),
        ("evaluate_epochs", 0),
        ("logical_cpus", 1),
    ):
        value = getattr(options, name)
        if value is not None and value < least:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} must be at least {least}. Received: {flag} {value}")
    if not 0 <= options.checkpoint_minutes < math.inf:
        raise ValueError(
            f"--checkpoint-minutes must be at least 0. Received: --checkpoint-minutes {options.checkpoint_minutes}"
        )


def _split_cpu(count):
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )


def _tell(trainer, last, options):
    console = Console()
    if trainer.skipped:
        console.print(
            f"images left out: {len(trainer.skipped)}, listed in {Path(options.workdir) / 'skipped.csv'}"
        )
    if last:
        console.print(f"{trainer.title}: {_errors(trainer, last)}; results in {options.workdir}/")
    else:
        console.print(
            f"{trainer.title}: stopped before the end of an epoch; results in {options.workdir}/"
        )


def _errors(trainer, last):
    """The error of the last epoch, and of test images that were evaluated at the end."""
    split = trainer.split if math.isfinite(last[f"{trainer.split}_accuracy"]) else ""
    name = f"{split}_accuracy" if split else "accuracy"
    text = f"{100 * (1 - last[name]):.2f}% {WORDS[split or 'train']} error"
    for row in (
        evaluated(trainer.workdir.read_metrics(), "test") if trainer.final_set is not None else ()
    ):
        chosen = 100 * (1 - row[f"{trainer.split}_accuracy"])
        text += f"; epoch {row['epoch']:.0f}: {chosen:.2f}%, and {100 * (1 - row['test_accuracy']):.2f}% test error"
    return text
