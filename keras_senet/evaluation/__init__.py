"""Accuracy of networks: by centre crop, ten crops, several scales, and ensembles, each network by
its own settings.
"""

from keras_senet.extras import needs_tensorflow

with needs_tensorflow():
    from keras_senet.evaluation.accuracy import Evaluation, evaluate
    from keras_senet.evaluation.networks import prediction_step
    from keras_senet.evaluation.protocols import PROTOCOLS, Protocol, larger
    from keras_senet.evaluation.tables import per_class, per_class_csv
    from keras_senet.imagenet import readable
    from keras_senet.runs.load import load_run

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "Protocol",
    "evaluate",
    "larger",
    "load_run",
    "per_class",
    "per_class_csv",
    "prediction_step",
    "readable",
]
