"""The oracle's detector: torchvision's in float64 made the values of oracle/detector.npz."""

from pathlib import Path

import little
import numpy as np
import pytest
from oracle_weights import make_detector


@pytest.fixture(autouse=True)
def graphs_as_traced():
    """In all files alike: they share the detector, whose graphs would be prepared twice."""
    with little.graphs_as_traced():
        yield


@pytest.fixture(scope="session")
def oracle():
    return np.load(Path(__file__).parent / "oracle" / "detector.npz")


@pytest.fixture(scope="session")
def detector():
    """Not to be changed."""
    return make_detector()
