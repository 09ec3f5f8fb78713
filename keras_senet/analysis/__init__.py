"""What a network costs and computes."""

from keras_senet.analysis.complexity import Complexity, complexity
from keras_senet.analysis.excitations import gates, gates_by_stage

__all__ = ["Complexity", "complexity", "gates", "gates_by_stage"]
