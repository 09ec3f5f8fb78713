"""Which recipe a dataset gets where none is named, and what is known of it before it is loaded."""

import dataclasses
import json

import pytest
from PIL import Image

import keras_senet
from keras_senet import cpu, models
from keras_senet.cli import recipe_flags
from keras_senet.cli.flags import read_options
from keras_senet.cli.options import AblateOptions, TrainOptions
from keras_senet.images.survey import Survey, survey
from keras_senet.recipes import RECIPES, Recipe, pick_recipe
from keras_senet.recipes.choice import PROTOCOLS
from keras_senet.se import SE


def save(path, size=(32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


# --- what is known of a dataset


def test_a_folder_has_the_images_of_all_its_classes(tmp_path):
    for i, size in enumerate([(40, 30), (50, 80), (64, 64)]):
        save(tmp_path / f"class{i}" / "a.jpg", size)
    save(tmp_path / "class0" / "further" / "b.png", (200, 100))
    (tmp_path / "class0" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.md").write_text("")
    assert survey(str(tmp_path)) == Survey(4, 57)  # the median of 30, 50, 64 and 100


def test_a_folder_with_splits_has_those_for_training(tmp_path):
    for split, size in (("Train", 48), ("val", 300), ("test", 300)):
        save(tmp_path / split / "cat" / "a.png", (size, size))
    assert survey(str(tmp_path)) == Survey(1, 48)


def test_a_class_may_be_called_train(tmp_path):
    for folder in ("train", "car"):
        save(tmp_path / folder / "a.bmp", (64, 96))
    assert survey(str(tmp_path)) == Survey(2, 64)


def test_of_a_folder_that_is_refused_nothing_is_counted(tmp_path):
    for folder in ("cat", "dog", "test/cat", "validation/dog"):
        save(tmp_path / folder / "a.bmp", (64, 96))
    assert survey(str(tmp_path)) == Survey(0, None)


def test_the_size_is_that_of_the_upright_image_and_damaged_headers_do_not_count(tmp_path):
    turned = save(tmp_path / "a" / "turned.jpg", (90, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 60)).save(turned, exif=exif)
    (tmp_path / "a" / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "a" / "unreadable.jpg").symlink_to("/proc/self/mem")
    assert survey(str(tmp_path)) == Survey(3, 60)


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.txt", ";")]
)
def test_a_table_has_the_training_images_that_it_names(tmp_path, name, delimiter):
    save(tmp_path / "images" / "a.jpg", (100, 70))
    other = save(tmp_path / "other place" / "b.jpg", (100, 90))
    save(tmp_path / "c.jpg", (300, 300))
    rows = [("Label", "path", "split"), ("cat", "images/a.jpg", "train"), ("dog", other, "train")]
    lines = [delimiter.join(map(str, row)) for row in [*rows, ("dog", "c.jpg", "val")]]
    (tmp_path / name).write_text("\ufeff" + "\n".join(lines))
    assert survey(str(tmp_path / name)) == Survey(2, 80)
    (tmp_path / name).write_text("\n".join(lines).replace("c.jpg", "missing.jpg"))
    assert survey(str(tmp_path / name)) == Survey(0, None)


def write_prepared(folder, dimensions, shards=("30", "12")):
    folder.mkdir(parents=True)
    splits = [{"name": "train", "shardLengths": shards}, {"name": "test", "shardLengths": ["9"]}]
    (folder / "dataset_info.json").write_text(json.dumps({"splits": splits}))
    image = {"image": {"dtype": "uint8", "shape": {"dimensions": dimensions}}}
    features = {"image": image, "label": {"classLabel": {"numClasses": "3"}}}
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))


def test_a_prepared_dataset_has_what_its_files_say(tmp_path):
    write_prepared(tmp_path / "birds" / "1.0.0", ["-1", "-1", "3"])
    write_prepared(tmp_path / "signs" / "small" / "2.0.1", ["48", "32", "3"])
    assert survey("birds", str(tmp_path)) == Survey(42, None)
    assert survey("birds:1.0.0", str(tmp_path)) == Survey(42, None)
    assert survey("signs/small", str(tmp_path)) == Survey(42, 32)
    assert survey("birds:3.0.0", str(tmp_path)) == Survey()
    write_prepared(tmp_path / "signs" / "small" / "10.0.0", ["64", "64", "3"])  # the newest
    assert survey("signs/small", str(tmp_path)) == Survey(42, 64)
    (tmp_path / "birds" / "1.0.0" / "features.json").write_text("{")
    assert survey("birds", str(tmp_path)) == Survey()


@pytest.mark.parametrize("name", ["digits", "nowhere", "/no/where", "a:b:c"])
def test_of_anything_else_nothing_is_known(tmp_path, name):
    assert survey(name, str(tmp_path)) == Survey()


def test_an_empty_folder_has_no_images(tmp_path):
    assert survey(str(tmp_path)) == Survey(0, None)


# --- the choice


@pytest.mark.parametrize(("dataset", "name"), PROTOCOLS.items())
def test_known_datasets_have_the_recipe_of_their_protocol(dataset, name):
    recipe = pick_recipe(dataset, images=50_000, size=32)
    assert recipe == RECIPES[name]
    assert name in recipe.chosen
    assert pick_recipe(f"{dataset}:1.0.0").dataset == f"{dataset}:1.0.0"


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [
        (50_000, 32, {"model": "SEResNet20", "epochs": 10, "batch_size": 128}),
        (1_000, 32, {"model": "SEResNet20", "epochs": 100, "batch_size": 32}),
        (60, 28, {"model": "SEResNet20", "epochs": 100, "batch_size": 8}),
        (1_000, 500, {"model": "SEResNet18", "image_size": 224, "batch_size": 32}),
        (5_000, 96, {"model": "SEResNet18", "image_size": 96, "batch_size": 256}),
        (100_000, 64, {"model": "SEResNet50", "image_size": 64, "batch_size": 256}),
        (None, None, {"model": "SEResNet18", "image_size": 0, "batch_size": 256}),
    ],
)
def test_other_datasets_have_one_for_their_images(images, size, expected):
    recipe = pick_recipe("photos", images=images, size=size)
    assert {name: getattr(recipe, name) for name in expected} == expected
    assert recipe.dataset == "photos"
    base = {"SEResNet20": (128, 0.1)}.get(recipe.model, (256, 0.1))
    assert recipe.learning_rate == pytest.approx(base[1] * recipe.batch_size / base[0])
    assert ("cifar10-short" if recipe.model == "SEResNet20" else "imagenet") in recipe.chosen
    assert Recipe.from_json(json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


# --- on the command line


def read(text):
    return read_options("train", TrainOptions, text.split())


def test_flags_change_what_is_chosen(tmp_path):
    save(tmp_path / "photos" / "cat" / "a.png")
    recipe = read(f"--workdir {tmp_path}/w --dataset {tmp_path}/photos --epochs 3 --no-flip").recipe
    assert (recipe.model, recipe.epochs, recipe.flat()["flip"]) == ("SEResNet20", 3, False)
    assert "1 images of 32 pixels" in recipe.chosen


def test_a_named_recipe_and_that_of_a_run_come_first(tmp_path):
    assert read("--workdir w --dataset cifar10 --recipe digits").recipe == RECIPES[
        "digits"
    ].override(dataset="cifar10")
    (tmp_path / "recipe.json").write_text(
        json.dumps({"recipe": dataclasses.asdict(Recipe(epochs=7))})
    )
    assert read(f"--workdir {tmp_path} --dataset digits").recipe == Recipe(epochs=7)


def test_an_ablation_chooses_too():
    options = read_options("ablate", AblateOptions, ["--workdir", "w", "--dataset", "cifar10"])
    assert options.recipe == RECIPES["cifar10"]


def test_help_asks_for_no_images(monkeypatch):
    monkeypatch.setattr(recipe_flags, "survey", lambda *_: pytest.fail("images are looked at"))
    assert read("--workdir w --dataset photos --help") is None


def test_without_anything_it_is_said_what_is_needed():
    with pytest.raises(ValueError, match="--dataset or --recipe must be given.*a folder of images"):
        read("--workdir w")


def test_images_that_are_not_decoded_are_named(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.heic' is not decoded"):
        read(f"--workdir w --dataset {tmp_path}")


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_the_network_is_that_of_the_weights(tmp_path, ending):
    """Of a file of this package, by its metadata: also without SE blocks and with other depths."""
    spec = dataclasses.replace(models.SEResNet20.spec, depths=(1, 1, 2), se=None)
    model = models.SEResNet20.variant(spec)(weights=None)
    keras_senet.save_weights(model, tmp_path / f"mine{ending}")
    save(tmp_path / "photos" / "cat" / "a.jpg", (300, 200))
    flags = f"--workdir {tmp_path}/w --dataset {tmp_path}/photos --weights {tmp_path}/mine{ending}"
    for more in ("", " --recipe finetune"):
        recipe = read(flags + more).recipe
        assert (recipe.model, recipe.depths, recipe.se) == ("SEResNet20", (1, 1, 2), None)
        assert recipe.weights == f"{tmp_path}/mine{ending}"
    assert read(flags + " --model SEResNet32").recipe.model == "SEResNet32"


@pytest.mark.parametrize("name", ["run", "run#2"])
def test_the_network_is_that_of_a_run(tmp_path, name):
    """Also where "#2" is no part of a file but of a folder's name, beside that of another run."""
    other = {"recipe": dataclasses.asdict(Recipe(model="SEResNet32"))}
    (tmp_path / "recipe.json").write_text(json.dumps(other))
    (tmp_path / name).mkdir()
    tmp_path = tmp_path / name
    run = Recipe(model="SEResNet56", depths=(2, 1, 1), se=SE(8))
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": dataclasses.asdict(run)}))
    save(tmp_path / "photos" / "cat" / "a.jpg", (300, 200))
    for weights in (tmp_path, tmp_path / "best.weights.h5", tmp_path / "model.keras"):
        if weights != tmp_path:
            weights.touch()
        recipe = read(
            f"--workdir {tmp_path}/w --dataset {tmp_path}/photos --weights {weights}"
        ).recipe
        assert (recipe.model, recipe.depths, recipe.se) == ("SEResNet56", (2, 1, 1), SE(8))


@pytest.mark.parametrize(
    ("weights", "images", "size", "gpu", "name", "model"),
    [
        ("imagenet", 800, 400, False, "finetune", "SEResNet18"),
        ("imagenet", 800, 400, True, "finetune", "SEResNet18"),
        ("imagenet", 5000, 400, False, "finetune", "SEResNet18"),
        ("imagenet", 5000, 400, True, "finetune-modern", "SEResNet50"),
        ("imagenet-racm", 5000, 400, True, "finetune-modern", "SEResNeXt50"),
        ("imagenet-ra2", None, None, True, "finetune", "SEResNet50"),
        ("imagenet", 800, 32, False, "finetune", "SEResNet18"),
        ("theirs.pth", 800, 32, False, "finetune", "SEResNet20"),
        ("theirs.pth", 800, 300, False, "finetune", "SEResNet50"),
    ],
)
def test_weights_are_fine_tuned(weights, images, size, gpu, name, model):
    """Also where the dataset has a protocol of its own."""
    for dataset in ("photos", "cifar10"):
        recipe = pick_recipe(dataset, images=images, size=size, weights=weights, gpu=gpu)
        expected = RECIPES[name].override(dataset=dataset, weights=weights, model=model)
        assert recipe == expected
        assert recipe.chosen.startswith(f"{name}, for training from weights on ")


def test_no_weights_is_from_scratch(tmp_path):
    save(tmp_path / "cat" / "a.png")
    recipe = read(f"--workdir w --dataset {tmp_path} --weights none").recipe
    assert (recipe.weights, recipe.model) == (None, "SEResNet20")


@pytest.mark.parametrize(
    ("visible", "found"), [(None, True), ("0,1", True), ("", False), ("-1", False)]
)
def test_a_gpu_is_found_without_tensorflow(monkeypatch, visible, found):
    monkeypatch.setattr(cpu.glob, "glob", lambda place: [place] if "nvidia" in place else [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cpu.finds_gpu() == found
    monkeypatch.setattr(cpu.glob, "glob", lambda place: [])
    assert not cpu.finds_gpu()
