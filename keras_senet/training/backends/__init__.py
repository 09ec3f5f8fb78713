"""What training needs of a backend: `load_backend()` is the module of Keras' own.

Each module has

    Devices(strategy)  where training runs
        replicas       how many share a batch
        several        whether several processes train together
        is_chief       whether this one writes the work directory
        pipelines      what can make its batches, as `Recipe.pipeline` names it, the preferred one
                       first
        lost           the errors that tell of a lost process
        scope()        within, the network is built
        distribute(data, first, last, skip)
                       the batches of the steps from `first` to `last`, as a step takes them
        check_equal(number, message)
                       raises ValueError unless all processes pass the same number
        barrier()      waits for all processes
    TrainStep(...)     one compiled `Step` of a recipe; after `publish()` the Keras variables have
                       their values
    split_cpu(count)   makes devices of a CPU, to try several, before the backend starts
    run_in_turn()      makes a CPU run one operation after another, before the backend starts
"""

import importlib
from collections.abc import Iterator, Set
from typing import Any

import keras

from keras_senet.data import DeviceImages

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


def give_batches(
    devices: Any, data: Any, first: int, last: int, skip: Set[int] = frozenset()
) -> Iterator[Any]:
    """The batches of the steps from `first` to `last`, as a `TrainStep` takes them: of images on
    the device, which are the step's source, their indices and places.
    """
    if not isinstance(data, DeviceImages):
        yield from devices.distribute(data, first, last, skip)
        return
    for number in range(first, last):
        yield data.indices(number), data.places(number)
