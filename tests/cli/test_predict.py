"""`keras-senet predict`, and what commands take as a network, beside plain Keras and Pillow."""

import csv
import functools
import json
import os
import shutil
import zipfile

import keras
import little
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image, ImageOps
from run_here import run_files_here
from tiny import randomize

import keras_senet
from keras_senet import export
from keras_senet.analysis.excitations import gates_by_stage
from keras_senet.models.resnet import SmallResNet
from keras_senet.preprocessing import Preprocessing

pytestmark = pytest.mark.usefixtures("graphs_as_traced")

NAMES = ("a cat", "dog [1]", "日本", "frog", "n02123045", "ship", "bird", "car", "deer", "horse")
SHOWN = [name if name != "n02123045" else "tabby (n02123045)" for name in NAMES]


def new_network(channels=3, classes=10, **options):
    constructor = keras_senet.application(
        SmallResNet((1, 1)), name="tiny", input_size=16, min_size=8, classes=classes
    )
    keras.utils.set_random_seed(0)
    model = randomize(constructor(weights=None, input_shape=(16, 16, channels), **options))
    model.class_names = NAMES[:classes]
    return model


network = functools.cache(new_network)  # for tests that do not change it


def write_run(folder, model, dataset="digits"):
    """What training leaves."""
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    keras_senet.save_weights(model, folder / "model.weights.h5")
    recipe = {"model": "SEResNet20", "dataset": dataset}
    content = {"recipe": recipe, "class_names": list(model.class_names)}
    (folder / "recipe.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("written") / "run", network())


@pytest.fixture
def workdir(written, tmp_path):
    """May be changed."""
    return shutil.copytree(written, tmp_path / "run")


@pytest.fixture
def photos(tmp_path):
    """Pictures of the network's own size, so that nothing is resized: what Pillow reads of them is
    the network's input.
    """
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.png", "a.bmp", "more/c.gif", "more/grey.png"):
        pixels = random.integers(0, 256, (16, 16, 3), "uint8")
        picture = Image.fromarray(pixels)
        (picture.convert("L") if "grey" in name else picture).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def by_keras(model, path):
    """The probabilities of a picture by plain Keras."""
    mode = "L" if model.input_shape[-1] == 1 else "RGB"
    with Image.open(path) as picture:
        pixels = np.asarray(ImageOps.exif_transpose(picture).convert(mode), "float32")
    pixels = pixels.reshape(1, 16, 16, -1)
    mean, std = model.preprocessing.mean, model.preprocessing.std
    return np.array(model((pixels - np.float32(mean)) / np.float32(std)))[0]


def check(content, model, names=SHOWN):
    """The JSON of predictions, beside plain Keras."""
    for row in content:
        expected = by_keras(model, row["image"])
        best = sorted(range(len(expected)), key=lambda i: -expected[i])[: len(row["predictions"])]
        assert [each["class"] for each in row["predictions"]] == [names[i] for i in best]
        np.testing.assert_allclose(
            [each["probability"] for each in row["predictions"]], expected[best], atol=2e-5
        )


def test_a_folder_by_a_run(workdir, photos, run):
    result = run("predict", photos, "--workdir", workdir, "--json")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    expected = ["a.bmp", "b.png", "more/c.gif", "more/grey.png"]
    assert [row["image"] for row in content] == [str(photos / name) for name in expected]
    check(content, keras.models.load_model(workdir / "model.keras"))
    assert "notes.txt" in result.stderr


def test_batches_change_nothing(workdir, photos, run):
    whole = json.loads(run("predict", photos, "--workdir", workdir, "--json").stdout)
    contents = []
    sizes = (1, 2, 3, 10**8)  # no batch is larger than there are images
    for batch_size in sizes:
        flags = ("--json", "--batch-size", batch_size)
        contents += json.loads(run("predict", photos, "--workdir", workdir, *flags).stdout)
    for row, expected in zip(contents, len(sizes) * whole, strict=True):
        assert [each["class"] for each in row["predictions"]] == [
            each["class"] for each in expected["predictions"]
        ]
        np.testing.assert_allclose(
            [each["probability"] for each in row["predictions"]],
            [each["probability"] for each in expected["predictions"]],
            atol=1e-5,
        )


def test_the_table_and_the_csv_file(workdir, photos, tmp_path, run):
    picture = photos / "b.png"
    content = json.loads(run("predict", picture, "--workdir", workdir, "--json").stdout)
    best = content[0]["predictions"]
    printed = run("predict", picture, "--workdir", workdir).stdout
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in printed.splitlines()
        if "│" in line
    ]
    assert [row[1:] for row in rows] == [
        [each["class"], f"{100 * each['probability']:.2f}%"] for each in best
    ]
    assert [row[0] for row in rows] == [str(picture), "", "", "", ""]
    file = tmp_path / "out.csv"
    result = run("predict", picture, "--workdir", workdir, "--csv", file, "--top", 2)
    assert result.returncode == 0
    assert "1 image" in result.stdout
    with file.open(newline="", encoding="utf-8") as opened:
        lines = list(csv.DictReader(opened))
    assert [(line["image"], line["rank"], line["class"]) for line in lines] == [
        (str(picture), str(rank), best[rank - 1]["class"]) for rank in (1, 2)
    ]
    assert [float(line["probability"]) for line in lines] == [b["probability"] for b in best[:2]]


SOURCES = (
    *("alone.keras", "w.weights.h5", "w.safetensors", "a.onnx", "nchw.onnx"),
    *("saved", "a.tflite", "int8.tflite"),
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with the network in every form that a command takes, as `SOURCES` names them: to be
    read only. Takes 5 s: five exports.
    """
    folder, model = tmp_path_factory.mktemp("sources"), network()
    with pytest.MonkeyPatch.context() as patch, little.graphs_as_traced():
        run_files_here(patch)
        write_sources(folder, model)
    return folder


def write_sources(folder, model):
    model.save(folder / "alone.keras")
    keras_senet.save_weights(model, folder / "w.weights.h5")
    keras_senet.save_weights(model, folder / "w.safetensors")
    common = {"preprocessing": model.preprocessing, "class_names": NAMES}
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype("float32")
    export.to_onnx(model, folder / "a.onnx", **common)
    export.to_onnx(model, folder / "nchw.onnx", layout="nchw", **common)
    export.to_saved_model(model, folder / "saved", **common)
    export.to_tflite(model, folder / "a.tflite", **common)
    export.to_tflite(
        model,
        folder / "int8.tflite",
        quantization="int8",
        representative_images=images,
        io_dtype="uint8",
        **common,
    )


def test_every_form_of_a_network(photos, sources, run):
    """7 s: a file of each form is written before."""
    model = network()
    picture = photos / "b.png"
    for name in SOURCES:
        result = run("predict", picture, "--model", sources / name, "--json", "--top", 10)
        assert result.returncode == 0, (name, result.stderr)
        content = json.loads(result.stdout)
        if "int8" not in name:
            check(content, model)
            continue
        found = {each["class"]: each["probability"] for each in content[0]["predictions"]}
        expected = dict(zip(SHOWN, by_keras(model, picture), strict=True))
        assert found == pytest.approx(expected, abs=0.1)
    pixels = np.asarray(Image.open(picture).convert("RGB"), "float32")[None]
    session = onnxruntime.InferenceSession(sources / "a.onnx")
    np.testing.assert_allclose(
        session.run(["predictions"], {"images": pixels})[0][0], by_keras(model, picture), atol=1e-5
    )


def test_other_commands_take_the_same(workdir, tmp_path, run):
    keras_senet.save_weights(network(), tmp_path / "w.weights.h5")
    for source in (workdir, workdir / "model.keras", tmp_path / "w.weights.h5"):
        result = run("summary", source, "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["size"] == 16
        flags = ("--count-only", "--keep", 0.5, "--json")
        assert run("prune", "--model", source, *flags).returncode == 0


@pytest.mark.parametrize("command", ["evaluate", "excitations", "prune", "summary", "export"])
def test_commands_that_need_keras_say_so_of_exported_files(command, tmp_path, run):
    (tmp_path / "a.onnx").write_bytes(b"")
    flags = {"summary": (), "export": (), "prune": ("--keep", "1", "--model")}
    result = run(command, *flags.get(command, ("--model",)), tmp_path / "a.onnx")
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert "must be a constructor's name" in line
    assert "a.onnx" in line


def test_upright_and_grey(tmp_path, run):
    model = network(channels=1)
    model.save(tmp_path / "grey.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), "uint8")
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    result = run("predict", tmp_path / "turned.png", "--model", tmp_path / "grey.keras", "--json")
    check(json.loads(result.stdout), model)


def test_fewer_classes_than_five(photos, tmp_path, run):
    model = network(classes=2)
    model.save(tmp_path / "two.keras")
    result = run("predict", photos / "b.png", "--model", tmp_path / "two.keras", "--json")
    check(json.loads(result.stdout), model)
    refused = run("predict", photos, "--model", tmp_path / "two.keras", "--top", 3)
    assert refused.returncode == 2
    assert "--top must be 1..2. Received: --top 3" in refused.stderr


def test_images_that_cannot_be_used(workdir, photos, tmp_path, run):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (photos / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    unusable = [str(photos / "bad.jpg"), str(photos / "a.heic")]
    flags = ("predict", photos, "--workdir", workdir)
    result = run(*flags, "--json")
    assert result.returncode == 2
    assert "bad.jpg' cannot be used: " in result.stderr.splitlines()[-1]
    content = json.loads(result.stdout)
    assert [row["image"] for row in content if "error" in row] == unusable
    assert len(content) == 6
    assert "cannot be used: " in run(*flags).stdout
    assert run(*flags, "--csv", tmp_path / "out.csv").returncode == 2
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as opened:
        assert [row["image"] for row in csv.DictReader(opened) if row["error"]] == unusable
    skipped = run(*flags, "--json", "--skip-corrupt")
    assert skipped.returncode == 0
    assert len(json.loads(skipped.stdout)) == 4
    assert "bad.jpg" in skipped.stderr


def test_names_that_are_not_utf8_and_patterns(workdir, photos, run):
    odd = os.fsencode(photos) + b"/\xff.png"
    os.rename(photos / "b.png", odd)
    result = run(
        "predict", os.fsdecode(odd), photos / "*" / "*.gif", "--workdir", workdir, "--json"
    )
    assert result.returncode == 0, result.stderr
    names = [row["image"] for row in json.loads(result.stdout)]
    assert names == [f"{photos}/\\xff.png", str(photos / "more" / "c.gif")]


def test_a_run_that_has_not_ended(workdir, photos, run):
    (workdir / "model.keras").unlink()
    refused = run("predict", photos, "--workdir", workdir)
    assert refused.returncode == 2
    assert "has not ended: there is no model.keras" in refused.stderr
    assert f"`keras-senet train --workdir {workdir}` continues it" in refused.stderr
    best = new_network()
    best.class_names = None  # of an earlier version
    keras_senet.save_weights(best, workdir / "best.weights.h5")
    result = run("predict", photos, "--workdir", workdir, "--json")
    assert "has not ended" in result.stderr
    check(json.loads(result.stdout), best)


def test_load_run(workdir, monkeypatch):
    little.put_in_place(monkeypatch.setitem, monkeypatch.setattr, little.TWO_STAGES)
    model = keras_senet.load_run(workdir)
    assert isinstance(model, keras.Model)
    assert model.class_names == NAMES
    assert model.preprocessing == Preprocessing.scaled(16)
    content = json.loads((workdir / "recipe.json").read_text())
    plain = keras.Model(model.input, model.output)  # as an earlier version wrote it
    plain.save(workdir / "model.keras")
    assert keras_senet.load_run(str(workdir)).class_names == NAMES
    del content["class_names"]
    (workdir / "recipe.json").write_text(json.dumps(content))
    old = keras_senet.load_run(workdir)
    assert old.class_names == tuple("0123456789")
    assert old.preprocessing == model.preprocessing
    content["recipe"]["dataset"] = str(workdir / "gone")
    (workdir / "recipe.json").write_text(json.dumps(content))
    assert keras_senet.load_run(workdir).class_names == tuple(f"class {i}" for i in range(10))


def bad(tmp_path):
    """Arguments, and what is said of them."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    for name in ("a.onnx", "a.tflite", "a.keras", "a.weights.h5"):
        (tmp_path / name).write_bytes(b"damaged" * 100)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"damaged" * 100)
    Image.new("RGB", (16, 16)).save(tmp_path / "ok.png")
    run = ("--workdir", "{run}")
    return [
        (("gone.jpg", *run), "There is no file or folder 'gone.jpg'"),
        (("https://a.example/b.jpg", *run), "URLs are not downloaded"),
        (("empty", *run), "There are no images in 'empty'. It is empty"),
        (("texts", *run), "There are no images in 'texts'. Files left out: 1 "),
        (("texts/a.txt", *run), "Not an image that can be decoded: 'texts/a.txt'"),
        (("a.tif", *run), "'a.tif' is not decoded; convert it to one of JPEG"),
        (("cut.jpg", *run), "'cut.jpg' cannot be used: "),
        (("gone/*.jpg", *run), "There is no file or folder 'gone/*.jpg'"),
        (("ok.png", "--workdir", "gone"), "'gone' holds no training run"),
        (("ok.png", "--workdir", "texts"), "'texts' holds no training run"),
        (("ok.png", "--model", "SEResnet50"), "Did you mean 'SEResNet50'?"),
        (("ok.png", "--model", "a.onxn"), "Did you mean 'a.onnx'?"),
        (("ok.png", "--model", "lost/b.onnx"), "Received: 'lost/b.onnx', which does not exist"),
        (("ok.png", "--model", "a.onnx"), "'a.onnx' is damaged, or is not of its kind"),
        (("ok.png", "--model", "a.tflite"), "'a.tflite' is damaged, or is not of its kind"),
        (("ok.png", "--model", "saved"), "'saved' is damaged, or is not of its kind"),
        (("ok.png", "--model", "a.keras"), "'a.keras' is damaged"),
        (("ok.png", "--model", "a.weights.h5"), "'a.weights.h5'"),
        (("ok.png", *run, "--weights", "imagenet"), "--workdir is in place of"),
        (("ok.png", "--model", "a.keras", "--weights", "w"), "--weights is for a constructor's"),
        (("ok.png", "--model", "a.onnx", "--gates"), "--gates is for Keras models"),
        (("ok.png", *run, "--csv", "texts"), "--csv must be a file"),
        (("ok.png", *run, "--csv", "gone/a.csv"), "The folder of --csv"),
    ]


def test_bad_input_is_one_line(workdir, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, message in bad(tmp_path):
        places = [str(workdir) if each == "{run}" else each for each in arguments]
        result = run("predict", *places)
        assert result.returncode == 2, arguments
        assert result.stdout == "", arguments
        (line,) = result.stderr.strip().splitlines()
        assert message in line, arguments


def test_exported_files_that_say_nothing(tmp_path, photos, run, monkeypatch):
    run_files_here(monkeypatch)
    model = network()
    export.to_onnx(model, tmp_path / "a.onnx")
    export.to_tflite(model, tmp_path / "a.tflite")
    for name in ("a.onnx", "a.tflite"):
        result = run("predict", photos, "--model", tmp_path / name)
        assert result.returncode == 2
        assert "does not say how images are prepared for it" in result.stderr


def softmax(scores):
    powers = np.exp(np.float64(scores) - scores.max())
    return powers / powers.sum()


@pytest.mark.parametrize("kind", [".keras", ".onnx", ".tflite", ""])
def test_logits_are_shown_as_probabilities(kind, photos, tmp_path, run, monkeypatch):
    """A SavedModel takes about 5 s, as it serves JPEGs."""
    model, file = network(classifier_activation=None), tmp_path / f"model{kind}"
    if kind == ".keras":
        model.save(file)
    else:
        run_files_here(monkeypatch)
        write = {".onnx": export.to_onnx, ".tflite": export.to_tflite, "": export.to_saved_model}
        known = {"preprocessing": model.preprocessing, "class_names": NAMES}
        write[kind](model, file, **known)
    result = run("predict", photos / "a.bmp", "--model", file, "--json", "--top", 10)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)
    expected = softmax(by_keras(model, photos / "a.bmp"))
    found = {each["class"]: each["probability"] for each in row["predictions"]}
    np.testing.assert_allclose([found[name] for name in SHOWN], expected, atol=1e-4)


# Each is JSON that a damaged or hostile file may have where this package's metadata are.
HOSTILE = [
    *({"class_names": value} for value in ("abcdefghij", 5, ["a"], [5] * 10, {"a": 1})),
    *({"preprocessing": value} for value in (5, [1], {"mean": [1], "std": [1]}, {"mean": "abc"})),
    {"preprocessing": {"mean": [0] * 3, "std": [1] * 3, "size": [17, 13]}},
]


@pytest.mark.parametrize("kind", ["onnx", "savedmodel"])
def test_exported_files_with_damaged_metadata(kind, photos, sources, tmp_path, run):
    file = sources / "a.onnx"
    if kind == "savedmodel":
        file = shutil.copytree(sources / "saved", tmp_path / "model")
    for each in HOSTILE if kind == "onnx" else HOSTILE[::3]:  # which are loaded in a moment
        if kind == "onnx":
            proto = onnx.load(file)
            for prop in proto.metadata_props:
                prop.value = json.dumps(each[prop.key]) if prop.key in each else prop.value
            onnx.save(proto, changed := tmp_path / "changed.onnx")
        else:
            changed, about = file, file / "assets.extra" / "keras_senet.json"
            kept = about.read_text(encoding="utf-8")
            about.write_text(json.dumps(json.loads(kept) | each))
        result = run("predict", photos / "a.bmp", "--model", changed)
        if kind != "onnx":
            about.write_text(kept, encoding="utf-8")
        assert result.returncode == 2, (each, result.stdout)
        assert result.stderr.count("\n") == 1, result.stderr
        assert str(changed) in result.stderr


def change_network(file, change):
    """Changes the `config.json` of a `.keras` file, or gives it other bytes."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    changed = change(config)
    content["config.json"] = changed if isinstance(changed, bytes) else json.dumps(config).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


NETWORKS = {
    "another module": lambda config: config.update(
        module="os", class_name="system", registered_name="system"
    ),
    "no layers": lambda config: config["config"].update(layers=[]),
    "another layer": lambda config: config["config"]["layers"][1].update(
        module="subprocess", class_name="Popen"
    ),
    "deep": lambda config: b"[" * 100_000,
    "metadata of text": lambda config: config["config"].update(keras_senet="spec"),
    "channels": lambda config: config["config"]["keras_senet"].update(
        preprocessing={"mean": [0], "std": [1], "size": 16}
    ),
}


@pytest.mark.parametrize("change", NETWORKS.values(), ids=NETWORKS)
def test_damaged_networks(change, photos, tmp_path, run):
    network().save(tmp_path / "model.keras")
    change_network(tmp_path / "model.keras", change)
    result = run("predict", photos / "a.bmp", "--model", tmp_path / "model.keras")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert "model.keras" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_network_whose_bytes_are_damaged(photos, tmp_path, run):
    file = tmp_path / "model.keras"
    network().save(file)
    content = bytearray(file.read_bytes())
    content[200:2000] = bytes(1800)
    for damaged in (content, content[:3000], b""):
        file.write_bytes(damaged)
        result = run("predict", photos / "a.bmp", "--model", file)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr


MARKUP = ("[/x]", "[bold]", ":smile:", "[link=a]b", "a]", "[", "\\[", "<b>", "[red]x", "&amp;")


def test_names_are_no_markup(photos, tmp_path, run):
    model = new_network()
    model.class_names = MARKUP
    file = tmp_path / "[bold] [x] :cat:.keras"
    model.save(file)
    picture = photos / "a.bmp"
    picture = picture.rename(photos / "[red]:cat:[b].bmp")
    result = run("predict", picture, "--model", file, "--top", 10)
    assert result.returncode == 0, result.stderr
    assert "[red]:cat:[b].bmp" in result.stdout
    for name in MARKUP:
        assert f" {name} " in result.stdout, name


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, photos, tmp_path, run):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = new_network()
    finally:
        keras.config.set_dtype_policy("float32")
    model = new_network()
    model.set_weights(mixed.get_weights())
    mixed.save(tmp_path / "model.keras")
    flags = ("--model", tmp_path / "model.keras", "--json", "--top", 10, "--gates")
    (row,) = json.loads(run("predict", photos / "a.bmp", *flags).stdout)
    found = {each["class"]: each["probability"] for each in row["predictions"]}
    expected = by_keras(model, photos / "a.bmp")
    np.testing.assert_allclose([found[name] for name in SHOWN], expected, atol=5e-3)
    image = model.preprocessing.normalize(model.preprocessing.read(photos / "a.bmp")[None])
    expected = gates_by_stage(model, image)
    assert row["gates"] == pytest.approx(expected, abs=1e-2)
