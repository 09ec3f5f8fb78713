"""Which networks have published weights, and what `weights=` accepts."""

from pathlib import Path

# Networks whose ImageNet weights the authors, or timm's maintainers in their stead, have published.
PUBLISHED = (
    "se_resnet18",
    "se_resnet34",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50",
    "se_resnext101",
    "senet154",
)


def is_published(model_name):
    """Whether there are ImageNet weights for the network of this name."""
    return model_name in PUBLISHED


def check(weights, model_name, include_top, classes, published_classes):
    """Raises ValueError unless `weights` is None or can be loaded into this network."""
    if weights is None:
        return
    if weights == "imagenet":
        if include_top and is_published(model_name) and classes != published_classes:
            raise ValueError(
                f"With `weights='imagenet'` and `include_top=True`, `classes` must be {published_classes}. "
                f"Received: classes={classes}"
            )
        raise ValueError(
            f"This version of keras_senet cannot load published weights for {model_name!r} yet. "
            "Pass `weights=None` for random ones, or the path of a `.weights.h5` file. Received: weights='imagenet'"
        )
    if not str(weights).endswith(".weights.h5") or not Path(weights).is_file():
        raise ValueError(
            "`weights` must be None, 'imagenet', or the path of an existing `.weights.h5` file. "
            f"Received: weights={str(weights)!r}"
        )
