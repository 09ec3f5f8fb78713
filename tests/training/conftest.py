"""Every test of this folder has little data and a little network."""

import little
import pytest


@pytest.fixture(autouse=True)
def little_data_and_network(monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr)
