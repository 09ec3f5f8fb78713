"""Networks of few blocks in the place of deep ones, where nothing but the time depends on how many
there are.
"""

import dataclasses

from keras.src.applications import resnet

import keras_senet


def set_depths(monkeypatch, name, depths):
    """A network of keras_senet with so many blocks in its stages."""
    network = getattr(keras_senet, name)
    spec = dataclasses.replace(network.spec, depths=depths)
    monkeypatch.setattr(keras_senet, name, network.variant(spec))


def cut_keras_resnets(monkeypatch):
    """Those of `keras.applications` with one block a stage."""
    stack = resnet.stack_residual_blocks_v1
    one = lambda x, filters, blocks, **options: stack(x, filters, 1, **options)  # noqa: E731
    monkeypatch.setattr(resnet, "stack_residual_blocks_v1", one)


def cut_resnet50s(monkeypatch):
    """SE-ResNet-50 and Keras' ResNet-50 with one block a stage."""
    set_depths(monkeypatch, "SEResNet50", (1, 1, 1, 1))
    cut_keras_resnets(monkeypatch)
