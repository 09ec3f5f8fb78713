"""A little run, whose classes have names that a page must not take for markup."""

import little
import pytest
from eager import run_eagerly
from report_runs import digits

from keras_senet import data
from keras_senet.report import write_page
from keras_senet.training import RECIPES, Trainer


@pytest.fixture(autouse=True)
def little_data_and_network(monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr, little.TWO_STAGES)
    monkeypatch.setitem(data.DATASETS, "digits", digits)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The work directory of a run of two epochs, to be read only."""
    workdir = tmp_path_factory.mktemp("run") / "workdir"
    with pytest.MonkeyPatch.context() as patch, run_eagerly():
        little.put_in_place(patch.setitem, patch.setattr, little.TWO_STAGES)
        patch.setitem(data.DATASETS, "digits", digits)
        recipe = RECIPES["digits"].override(epochs=2, batch_size=16)
        Trainer(recipe, workdir, strategy="none", verbose=False).train()
    return workdir


@pytest.fixture(scope="session")
def written(trained, tmp_path_factory):
    """The file of that run's page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, "digits", digits)
        return write_page(
            trained, tmp_path_factory.mktemp("page") / "report.html", batch_size=32
        ).path
