"""The constructors; `__all__` is the registry that the command line and the tests read."""

from keras_senet.models.resnet import (
    SENet154,
    SEResNet18,
    SEResNet20,
    SEResNet32,
    SEResNet34,
    SEResNet50,
    SEResNet56,
    SEResNet101,
    SEResNet152,
    SEResNeXt50,
    SEResNeXt101,
)

__all__ = [
    "SEResNet18",
    "SEResNet34",
    "SEResNet50",
    "SEResNet101",
    "SEResNet152",
    "SEResNeXt50",
    "SEResNeXt101",
    "SENet154",
    "SEResNet20",
    "SEResNet32",
    "SEResNet56",
]

for _name in __all__:
    globals()[_name].__name__ = globals()[_name].__qualname__ = _name


def get(name):
    """The constructor of this name, such as "SEResNet50".

    Raises:
        ValueError: for an unknown name; it lists the known ones.
    """
    if name not in __all__:
        raise ValueError(f"There is no model {name!r}. Models: {', '.join(__all__)}")
    return globals()[name]
