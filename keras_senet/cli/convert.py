"""`keras-senet convert`: weights of any kind, written with the architecture that they belong to."""

from pathlib import Path

from keras_senet import models
from keras_senet.cli.options import ConvertOptions
from keras_senet.cli.tables import console, status
from keras_senet.weights import save_weights
from keras_senet.weights.saving import check_path
from keras_senet_cli import quiet


def run(options: ConvertOptions) -> None:
    """Reads the weights and writes them as `.weights.h5` or `.safetensors`."""
    check_path(options.output)
    if Path(options.output).exists() and not options.overwrite:
        raise ValueError(f"--output exists: {options.output!r}. Pass --overwrite to replace it")
    with status(f"loading {options.source}"), quiet():
        model = models.get(options.model).load(options.source)
    save_weights(model, options.output)
    console.print(model.spec)
    console.print(f"{options.output}: {model.count_params():,} weights")
