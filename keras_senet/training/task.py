"""What a training engine trains: images, a network, what is minimised, how it is evaluated."""

import abc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_senet.runs.history import Segment
from keras_senet.runs.record import describe_recipe
from keras_senet.runs.tables import Row
from keras_senet.runs.workdir import WorkDir
from keras_senet.training.inputs import RunImages
from keras_senet.training.objective import Objective
from keras_senet.training.phases import Phase
from keras_senet.training.start import Start


class Task(abc.ABC):
    """One kind of training, such as `Classification`: made of a recipe, a work directory and the
    folder of tensorflow_datasets, it has looked at the images, and at the weights that the run
    begins from.

    name         as in `recipe.json`
    best         the file of the weights of the best epoch
    score        the column of the metrics whose largest value makes an epoch the best one
    recipe       of the run; the engine may lower its batch size
    images       of the run, by their splits
    class_names  in the order of the network's outputs
    start        what the run begins from; None for random weights
    """

    name: str
    best: str
    score: str
    recipe: Any
    images: RunImages
    class_names: Sequence[str]
    start: Start | None

    @property
    def title(self) -> str:
        """The network and the dataset of the run, for pictures."""
        return describe_recipe(self.recipe)

    @abc.abstractmethod
    def notes(self) -> list[str]:
        """What the user must know of the images, lines of text."""

    @abc.abstractmethod
    def format_division(self) -> bytes:
        """How the images were divided, the content of `split.csv`."""

    def check_images(self) -> None:  # noqa: B027
        """Decodes the images that are evaluated: damage is found before training and not after.
        Nothing where reading the dataset has looked at each image.
        """

    @abc.abstractmethod
    def make_batches(self) -> Any:
        """The training batches, such as `data.TrainingData`."""

    @abc.abstractmethod
    def count_steps(self) -> int:
        """How many steps an epoch has."""

    @abc.abstractmethod
    def make_network(self) -> keras.Model:
        """The network with new weights: what is trained, averaged and saved in checkpoints."""

    @abc.abstractmethod
    def load_start(self, model: Any) -> str | None:
        """Gives the network the weights that a new run begins from; returns what they are."""

    @abc.abstractmethod
    def make_objective(self, model: Any) -> Objective:
        """What is minimised."""

    @abc.abstractmethod
    def make_phases(
        self, segments: Sequence[Segment], model: Any, steps_per_epoch: int
    ) -> tuple[Phase, ...]:
        """The phases of a run that has these segments."""

    @abc.abstractmethod
    def average(self, sums: Mapping[str, float], steps: int) -> dict[str, float]:
        """Columns of the metrics: loss and figures per step or image, of their sums."""

    @abc.abstractmethod
    def evaluate(
        self, model: Any, split: str, *, skip_corrupt: bool
    ) -> tuple[dict[str, float], Any]:
        """The figures of a split as columns of the metrics, and whatever else was found."""

    @abc.abstractmethod
    def missing(self, split: str) -> dict[str, float]:
        """The same columns, NaN, of a split that is not evaluated."""

    def record(self, workdir: Path, split: str, result: Any) -> None:  # noqa: B027
        """Writes what an evaluation has found besides the figures, if training does that."""

    @abc.abstractmethod
    def describe_epoch(self, row: Row) -> str:
        """A row of the metrics as a line of text."""

    @abc.abstractmethod
    def save_weights(self, model: Any, path: Path) -> None:
        """Writes the weights of the best epoch."""

    @abc.abstractmethod
    def save_results(self, model: Any, workdir: WorkDir) -> None:
        """Writes the trained network and, of the metrics, the curves."""


MakeTask = Callable[[Any, str | Path, str | None], Task]
