"""What a network costs and computes, what its gates do, and smaller networks of it."""

from keras_senet.analysis.complexity import Complexity, complexity
from keras_senet.analysis.excitations import Excitations, excitations, gates, gates_by_stage
from keras_senet.analysis.pruning import prune, rank_channels
from keras_senet.analysis.removal import remove_se

__all__ = [
    "Complexity",
    "Excitations",
    "complexity",
    "excitations",
    "gates",
    "gates_by_stage",
    "prune",
    "rank_channels",
    "remove_se",
]
