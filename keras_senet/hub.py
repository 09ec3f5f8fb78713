"""Publishing a network on the Hugging Face Hub, with a card that says what it is; loading is
`weights="hf://..."`.
"""

import dataclasses
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_senet import models
from keras_senet.complexity import complexity
from keras_senet.extras import require
from keras_senet.fields import check_argument
from keras_senet.layers.data_format import image_shape
from keras_senet.preprocessing import sides
from keras_senet.weights.download import FILE, PATIENCE, reach
from keras_senet.weights.saving import save_weights


class HubError(OSError):
    """The Hub could not be reached, or refused; the message has the request and the reason."""


def push_to_hub(
    model: keras.Model,
    repo_id: str,
    *,
    licence: str = "apache-2.0",
    accuracy: Mapping[str, float] | None = None,
    recipe: Any = None,
    dataset: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Uploads a network as `model.safetensors` with a generated model card; returns the
    repository's address. Then `SEResNet50(weights="hf://owner/name")` loads it.

    Args:
        model: a network that a constructor of this package made.
        repo_id: "owner/name"; the repository is made where it does not exist.
        licence: the Hub's identifier of the weights' licence, such as "cc-by-4.0".
        accuracy: of each metric's name the value (0..1), as measured by you; or None.
        recipe: the `training.Recipe` that the weights were trained with; or None.
        dataset: the Hub's identifier of the training data; or None.
        private: whether a new repository is private.
        token: an access token; None is the one that `hf auth login` keeps.

    Raises:
        ValueError: for a model without a spec, or another argument that cannot go onto a card.
        MissingExtraError: without the extra `weights`.
        HubError: if there is no network, or the Hub refuses.
    """
    hub = require("huggingface_hub", "weights")
    constants = require("huggingface_hub.constants", "weights")
    require("safetensors", "weights")
    facts = {"licence": licence, "accuracy": accuracy, "recipe": recipe, "dataset": dataset}
    card = model_card(model, repo_id, **facts)
    try:
        reach(constants.ENDPOINT, PATIENCE)
        _upload(hub.HfApi(token=token), model, card, repo_id, private)
    except Exception as error:  # of the library, and of what it uses for HTTP: no common class
        reason = " ".join(str(error).split())[:300]
        raise HubError(f"{repo_id!r} cannot be uploaded: {reason}") from error
    return f"{constants.ENDPOINT}/{repo_id}"


def _upload(api, model, card, repo_id, private):
    with tempfile.TemporaryDirectory() as folder:
        save_weights(model, Path(folder) / FILE)
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        api.create_repo(repo_id, private=private, exist_ok=True)
        message = f"Upload {model.name}"
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)


CARD = """---
library_name: keras_senet
license: {licence}
pipeline_tag: image-classification
tags:
- keras
- squeeze-and-excitation
{front}---

# {name}

A Squeeze-and-Excitation network of keras_senet
([Hu et al., arXiv 1709.01507](https://arxiv.org/abs/1709.01507)).

```python
{code}
```

| | |
|---|---|
| parameters | {parameters:,} |
| multiply-adds | {multiply_adds} |
| classes | {classes} |
| accuracy | {accuracy} |
| licence | {licence} |

## Architecture

`{spec}`

## Preprocessing

RGB, 0..255: resized in proportion to just cover {covered} pixels ({interpolation}, antialiased),
the middle {crop} pixels, then `(x - {mean}) / {std}`. `model.preprocessing` does it.

## Training

{recipe}
"""


def model_card(
    model: keras.Model,
    repo_id: str,
    *,
    licence: str = "apache-2.0",
    accuracy: Mapping[str, float] | None = None,
    recipe: Any = None,
    dataset: str | None = None,
) -> str:
    """The text of a network's card: how to load it, cost, preprocessing, recipe and accuracy."""
    _check(model, repo_id, licence, dataset)
    has_head = any(layer.name == "predictions" for layer in model.layers)
    preprocessing = model.preprocessing
    height, width, _ = image_shape(model.inputs[0])
    return CARD.format(
        licence=licence,
        front=f"datasets:\n- {dataset}\n" if dataset else "",
        name=repo_id.split("/")[1],
        code=loading_code(model, repo_id),
        parameters=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        multiply_adds=f"{complexity(model).multiply_adds:,} at {height} x {width}"
        if height and width
        else "by size",
        classes=model.output_shape[-1] if has_head else "none",
        accuracy=_accuracy(accuracy),
        spec=model.spec,
        covered="{} x {}".format(*sides(preprocessing.short_side)),
        interpolation=preprocessing.interpolation,
        crop="{} x {}".format(*sides(preprocessing.size)),
        mean=preprocessing.mean,
        std=preprocessing.std,
        recipe=_recipe(recipe),
    )


def _check(model, repo_id, licence, dataset):
    if not hasattr(model, "spec"):
        raise ValueError(
            "`model` must be a network that a constructor of keras_senet made. "
            f"Received: {model.name!r}"
        )
    valid = _is_name(repo_id) and repo_id.count("/") == 1
    check_argument("repo_id", repo_id, valid, "'owner/name'")
    check_argument("licence", licence, _is_name(licence), "the Hub's identifier of a licence")
    valid = dataset is None or _is_name(dataset)
    check_argument("dataset", dataset, valid, "the Hub's identifier of a dataset")


def _is_name(value):
    """Whether a value can be in the card's front matter: one line without blanks."""
    return isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) is not None


def loading_code(model: keras.Model, repo_id: str) -> str:
    """The lines that load the network from the Hub."""
    constructor: Any = models.find(model.spec).base
    published = constructor.spec, *constructor.spec.forms.values()
    variant = "" if model.spec in published else f".variant({model.spec})"
    module = type(model.spec).__module__
    imports = f"from keras_senet import SE\nfrom {module} import *\n" if variant else ""
    options = "".join(
        f", {argument}={value!r}" for argument, value in _options(model, constructor).items()
    )
    return f'import keras_senet\n{imports}\nmodel = keras_senet.{constructor.__name__}{variant}(weights="hf://{repo_id}"{options})'


def _options(model, constructor):
    """The arguments that differ from a constructor's defaults."""
    names = {layer.name for layer in model.layers}
    if "predictions" not in names:
        pools = [pool for pool in ("avg", "max") if f"{pool}_pool" in names]
        return {"include_top": False} | ({"pooling": pools[0]} if pools else {})
    classes = model.output_shape[-1]
    return {} if classes == constructor.classes else {"classes": classes}


def _accuracy(accuracy):
    if accuracy is None:
        return "not stated"
    values = dict(accuracy)
    holds = all(isinstance(name, str) and name.isprintable() and "|" not in name for name in values)
    check_argument("accuracy", accuracy, holds, "a dictionary with names of one line")
    holds = all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in values.values())
    check_argument("accuracy", accuracy, holds, "a dictionary with numbers of 0..1")
    return ", ".join(f"{name} {100 * value:.2f}%" for name, value in values.items())


def _recipe(recipe):
    if recipe is None:
        return "Not stated."
    rows = "".join(
        f"| {name} | `{value}` |\n" for name, value in dataclasses.asdict(recipe).items()
    )
    return f"| field | value |\n|---|---|\n{rows}"
