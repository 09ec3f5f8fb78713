"""Which images `excitations` and `prune` take, and what they say of them."""

import json
from dataclasses import replace

import keras
import little
import numpy as np
import pytest
from data.files import encode
from PIL import Image

import keras_senet
from keras_senet import cli, data


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A run of a folder without test images, which was trained on photographs as they are stored:
    on their side.
    """
    little.skip_drawing(monkeypatch)
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr, little.TWO_STAGES)
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "val"):
        for name in "0123456789":
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            image = np.random.default_rng(int(name)).integers(0, 256, (8, 8, 3), "uint8")
            (place / "1.png").write_bytes(encode(image, "PNG", exif=exif))
    folder = tmp_path / "run"
    folder.mkdir()
    keras.utils.set_random_seed(0)
    model = little.TWO_STAGES(weights=None)
    model.preprocessing = replace(model.preprocessing, upright=False)
    model.save(folder / "model.keras")
    keras_senet.save_weights(model, folder / "model.weights.h5")
    recipe = {"model": "SEResNet20", "dataset": str(tmp_path / "photos"), "upright": False}
    content = {"recipe": recipe, "class_names": list("0123456789")}
    (folder / "recipe.json").write_text(json.dumps(content))
    return folder


# Up to 5 s: two commands, each with its pipelines of files.
def test_they_are_turned_as_the_network_has_it_and_called_by_their_split(
    run_folder, monkeypatch, capsys
):
    loaded = []

    def load(*arguments, **options):
        loaded.append(loaded_set := real(*arguments, **options))
        return loaded_set

    real = data.load
    monkeypatch.setattr(data, "load", load)
    folder, output = run_folder, run_folder / "pruned"
    assert cli.main(["excitations", "--workdir", str(folder), "--output", str(folder / "e")]) == 0
    assert (
        cli.main(
            [
                "prune",
                "--workdir",
                str(folder),
                "--keep",
                "0.5",
                "--images",
                "4",
                "--output",
                str(output),
            ]
        )
        == 0
    )
    assert [each.upright for each in loaded] == [False] * 3
    report = json.loads((output / "pruning.json").read_text())
    assert (report["split"], report["preprocessing"]["upright"]) == ("val", False)
    printed = "".join(capsys.readouterr().out.split())  # lines end within long paths
    assert printed.count("photos,val") == 2
