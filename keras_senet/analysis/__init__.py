"""What a network costs and computes, what its gates do, and smaller networks of it."""

from keras_senet.analysis.comparison import Comparison, Cost, compare, cost
from keras_senet.analysis.excitations import Excitations, excitations, gates_by_stage
from keras_senet.analysis.grad_cam import grad_cam
from keras_senet.analysis.pruning import prune, rank_channels
from keras_senet.analysis.removal import remove_se
from keras_senet.analysis.taps import gates
from keras_senet.complexity import Complexity, complexity
from keras_senet.extras import load_names
from keras_senet.recipes.variants import Variant

HOMES = {"Ablation": "ablation"}  # it needs the training engine
__all__ = [
    "Ablation",
    "Comparison",
    "Complexity",
    "Cost",
    "Excitations",
    "Variant",
    "compare",
    "complexity",
    "cost",
    "excitations",
    "gates",
    "gates_by_stage",
    "grad_cam",
    "prune",
    "rank_channels",
    "remove_se",
]
__getattr__ = load_names(__name__, HOMES)
