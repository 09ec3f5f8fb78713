"""What a training engine trains: images, a network, what is minimised, how it is evaluated."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras

from keras_senet.runs.history import Segment
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import RunImages
from keras_senet.training.objective import Objective
from keras_senet.training.phases import Phase


class Task(Protocol):
    """One kind of training, such as `Classification`: made of a recipe, a work directory and the
    folder of tensorflow_datasets, it has looked at the images, and at the weights that the run
    begins from.

    name         as in `recipe.json`
    recipe       of the run; the engine may lower its batch size
    images       of the run, by their splits
    class_names  in the order of the network's outputs
    start        what the weights are that the run begins from, as plain data; None if random
    score        the column of the metrics whose largest value makes an epoch the best one
    best         the file of that epoch's weights
    title        of the run, for pictures
    """

    name: str
    recipe: Any
    images: RunImages
    class_names: Sequence[str]
    start: Mapping[str, Any] | None
    score: str
    best: str

    @property
    def title(self) -> str: ...

    def notes(self) -> list[str]:
        """What the user must know of the images, lines of text."""
        ...

    def format_division(self) -> bytes:
        """How the images were divided, the content of `split.csv`."""
        ...

    def check_images(self) -> None:
        """Decodes the images that are evaluated: damage is found before training and not after."""
        ...

    def make_batches(self) -> Any:
        """The training batches, such as `data.TrainingData`."""
        ...

    def count_steps(self) -> int:
        """How many steps an epoch has."""
        ...

    def make_network(self) -> keras.Model:
        """The network with new weights: what is trained, averaged and saved in checkpoints."""
        ...

    def load_start(self, model: keras.Model) -> str | None:
        """Gives the network the weights that a new run begins from; returns what they are."""
        ...

    def make_objective(self, model: keras.Model) -> Objective: ...

    def make_phases(
        self, segments: Sequence[Segment], model: keras.Model, steps_per_epoch: int
    ) -> tuple[Phase, ...]: ...

    def make_rates(self, segments: Sequence[Segment], steps_per_epoch: int) -> Any:
        """The learning rate as a function of the steps after those of `head_epochs`."""
        ...

    def average(self, sums: Mapping[str, float], steps: int) -> dict[str, float]:
        """Columns of the metrics: loss and figures per step or image, of their sums."""
        ...

    def evaluate(
        self, model: keras.Model, split: str, *, skip_corrupt: bool
    ) -> tuple[dict[str, float], Any]:
        """The figures of a split as columns of the metrics, and whatever else was found."""
        ...

    def missing(self, split: str) -> dict[str, float]:
        """The same columns, NaN, of a split that is not evaluated."""
        ...

    def record(self, workdir: Path, split: str, result: Any) -> None:
        """Writes what an evaluation has found besides the figures."""
        ...

    def describe_epoch(self, row: Row) -> str:
        """A row of the metrics as a line of text."""
        ...

    def save_weights(self, model: keras.Model, path: Path) -> None:
        """Writes the weights of the best epoch."""
        ...

    def save_results(self, model: keras.Model, workdir: WorkDir, rows: Iterable[Row]) -> None:
        """Writes the trained network and, of the rows of the metrics, the curves."""
        ...


MakeTask = Callable[[Any, str | Path, str | None], Task]
