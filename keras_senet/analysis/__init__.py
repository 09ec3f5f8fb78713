"""What a network costs and computes."""

from keras_senet.analysis.complexity import Complexity, complexity

__all__ = ["Complexity", "complexity"]
