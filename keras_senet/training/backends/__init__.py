"""What training needs of a backend: `load_backend()` is the module of Keras' own.

Each module has

    Devices(strategy)  where training runs: `replicas`, `several` processes, `is_chief`,
                       `pipelines`, `scope()`, `distribute(...)`, `check_equal(...)`, `barrier()`,
                       and `lost`, the errors that tell of a lost process
    TrainStep(...)     one compiled step of a recipe: called with a batch it returns an `Outcome`;
                       after `publish()` the Keras variables have their values
    split_cpu(count)   makes devices of a CPU, to try several
"""

import importlib
from typing import Any

import keras

NAMES = ("tensorflow", "jax")


def load_backend() -> Any:
    """The module of Keras' backend.

    Raises:
        ValueError: for torch, which this engine does not run on.
    """
    name = keras.backend.backend()
    if name not in NAMES:
        raise ValueError(
            f"This engine needs KERAS_BACKEND={' or '.join(NAMES)}; `--engine fit` also runs on "
            f"{name!r}"
        )
    return importlib.import_module(f"{__name__}.{name}")
