"""Every test of this folder has little data and a little network; what one run leaves is shared."""

import shutil

import little
import pytest

from keras_senet.training import Trainer
from keras_senet.training.fit import FitTrainer


@pytest.fixture(autouse=True)
def little_data_and_network(monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr)


@pytest.fixture(autouse=True)
def graphs_as_traced():
    with little.graphs_as_traced():
        yield


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch):
    """But for `whole`, and where a file overrides this: curves take a tenth of a run's time."""
    little.skip_drawing(monkeypatch)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A trainer that has trained to the end of `little.RECIPE`: tests must leave it and its files
    as they are.
    """
    with pytest.MonkeyPatch.context() as patch, little.graphs_as_traced():
        little.put_in_place(patch.setitem, patch.setattr)
        trainer = Trainer(
            little.RECIPE,
            tmp_path_factory.mktemp("run") / "whole",
            verbose=False,
            tensorboard=True,
            checkpoint_steps=2,
            keep=5,
        )
        trainer.untrained = trainer.model.get_weights()[0]
        trainer.train()
    return trainer


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """The same by Keras' own loop, which has trained to the end of `little.FITTED`."""
    with pytest.MonkeyPatch.context() as patch, little.graphs_as_traced():
        little.put_in_place(patch.setitem, patch.setattr)
        folder = tmp_path_factory.mktemp("fit") / "fit"
        trainer = FitTrainer(little.FITTED, folder, verbose=False, tensorboard=True)
        trainer.train()
    return trainer


@pytest.fixture
def finished(whole, tmp_path):
    """The folder of a run that was trained to its end, to be changed."""
    return shutil.copytree(whole.workdir.path, tmp_path / "finished")
