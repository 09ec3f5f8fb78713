"""The Markdown files that readers see, their blocks, and what the examples in them need."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

import keras_senet
from keras_senet.weights.download import cache_folder

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/*.md"))
# With what the site also shows
DOCUMENTS = (
    *PAGES,
    *sorted(ROOT.glob("*.md")),
    *(ROOT / name for name in ("benchmarks/README.md", "export/README.md", "export/web/README.md")),
    *sorted(ROOT.glob("results/**/*.md")),
    *sorted(ROOT.glob("notebooks/*.md")),
    *sorted(ROOT.glob("notebooks/*.ipynb")),
)


def read(file):
    """The text of a file; of a notebook that of all cells."""
    if file.suffix != ".ipynb":
        return file.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(file.read_text())["cells"])


def blocks(text, language):
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prepare_folder(folder, monkeypatch, text):
    """Makes an empty folder the current one, with the files that the examples in `text` read."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KERAS_HOME", str(folder))
    put_photo(folder / "photo.jpg")
    if '"run"' in text:
        put_run(folder / "run")
    if "imagenet-ra2" in text:
        put_published_weights()


def put_photo(path):
    """The photograph of a cat in the examples: one of CIFAR-10's test images, enlarged."""
    with np.load(ROOT / "tests" / "cifar10.npz") as arrays:
        image = Image.fromarray(arrays["x_test"][38])
    image.resize((320, 320), Image.Resampling.BICUBIC).save(path, quality=95)


def put_published_weights():
    """Random weights at the place where those of SE-ResNet-50 would be put by hand."""
    spec = keras_senet.SEResNet50.spec.published_by("timm")
    (checkpoint,) = (c for c in keras_senet.list_weights("SEResNet50") if c.tag == "imagenet-ra2")
    cache_folder().mkdir(parents=True)
    keras_senet.save_weights(
        keras_senet.SEResNet50.variant(spec)(weights=None), cache_folder() / checkpoint.file_name
    )


def put_run(folder):
    """What training on photographs of two classes leaves."""
    folder.mkdir()
    model = keras_senet.SEResNet20(weights=None, classes=2)
    model.class_names = ("cat", "dog")
    model.save(folder / "model.keras")
    (folder / "recipe.json").write_text(
        json.dumps({"recipe": {"model": "SEResNet20", "dataset": "photos"}})
    )
