"""The pages of the site: their Python runs, their commands can be read, their links lead somewhere,
and the built site has a place for every public name and loads nothing from elsewhere.
"""

import ast
import re
import shlex
import subprocess
import sys
import zlib
from urllib.parse import unquote, urlsplit

import keras
import little
import numpy as np
import onnxruntime
import pytest
import shallow
from documents import DOCUMENTS, PAGES, ROOT, blocks, prepare_folder, read
from eager import run_eagerly
from run_here import run_files_here
from tiny import TINY

import keras_senet_cli
from keras_senet import detection, export, models
from keras_senet.cli.flags import read_options
from keras_senet.cli.options import CLASSES
from keras_senet.initializers import blank
from keras_senet.preprocessing import IMAGENET
from keras_senet.recipes import Recipe
from keras_senet.runs.workdir import WorkDir

LINK = re.compile(r"\]\(([^()\s]+)\)|<(https?:[^<>\s]+)>")

# Blocks that the tests do not run begin with this comment and the reason
NOT_RUN = "# not run here: "
REASONS = {}


def is_run(block):
    return not block.startswith(NOT_RUN)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page.read_text(), "python")], ids=lambda p: p.stem
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """In one namespace from top to bottom, in a folder with a photograph and a finished run. Large
    networks are built without random numbers, and what runs once is not traced; networks.md, which
    builds SE-ResNet-50 five times, has a shallow one. export.md takes 5 s, as it converts
    SE-ResNet-20.
    """
    text, names = page.read_text(), {}
    run_files_here(monkeypatch)
    if page.stem == "networks":
        shallow.cut_resnet50s(monkeypatch)
    with blank(), run_eagerly():
        prepare_folder(tmp_path, monkeypatch, text)
        for block in filter(is_run, blocks(text, "python")):
            exec(compile(block, page.name, "exec"), names)


def test_the_python_of_exported_files_runs(tmp_path, monkeypatch):
    """Of networks, on files of a small one; that about detectors runs in tests/detection.

    Takes 5 s: three files, of which one serves JPEGs.
    """
    text = read(ROOT / "export/README.md").partition("## Detectors")[0]
    prepare_folder(tmp_path, monkeypatch, text)
    run_files_here(monkeypatch)
    images = keras.Input((224, 224, 3))
    x = keras.layers.Conv2D(8, 32, strides=32, activation="relu")(images)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(3, activation="softmax")(x))
    common = {"preprocessing": IMAGENET, "class_names": ("ant", "bee", "cat")}
    common["images"] = np.zeros((1, 224, 224, 3))
    names = {}
    with little.graphs_as_traced():
        export.to_saved_model(model, "exports/saved_model", **common)
        export.to_tflite(model, "exports/model.tflite", **common)
        export.to_onnx(model, "exports/model.onnx", **common)
        for block in blocks(text, "python"):
            exec(compile(block, "export/README.md", "exec"), names)
    assert names["names"] == ["ant", "bee", "cat"]
    assert names["answer"]["predictions"].shape == (1, 3)


def test_the_python_of_the_web_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = TINY["small"].constructor(weights=None, classes=3)
    given = {"model": model, "names": ("ant", "bee", "cat")}
    for block in blocks(read(ROOT / "export/web/README.md"), "python"):
        exec(compile(block, "export/web/README.md", "exec"), given)
    outputs = onnxruntime.InferenceSession("network.onnx").get_outputs()
    assert {"predictions", "gates/stage1_block1_se"} <= {output.name for output in outputs}


def test_no_other_document_has_python():
    """Nor the README, which has a test of its own."""
    own = {ROOT / name for name in ("README.md", "export/README.md", "export/web/README.md")}
    files = [file for file in DOCUMENTS if file.suffix == ".md" and file not in PAGES]
    assert {file for file in files if blocks(read(file), "python")} == own
    cells = "".join(read(file) for file in DOCUMENTS if file.suffix == ".ipynb")
    assert not blocks(cells, "python")  # of text: those of code have no fence


def test_what_is_not_run_says_why():
    skipped = {
        page.stem: [b.splitlines()[0] for b in blocks(page.read_text(), "python") if not is_run(b)]
        for page in PAGES
    }
    assert {name: lines for name, lines in skipped.items() if lines} == REASONS


def documented_commands():
    """The `keras-senet` lines in blocks for a console."""
    for file in DOCUMENTS:
        for block in (*blocks(read(file), "console"), *blocks(read(file), "bash")):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.match(r"(?:\w+=\S+ |.* && )*(keras-senet .*)", line):
                    yield found[1]


@pytest.mark.parametrize("line", sorted(set(documented_commands())))
def test_documented_commands_can_be_read(line, tmp_path, monkeypatch):
    for name in (
        "plain",
        "run",
        "photos-run",
        "phone",
        "se50",
        "se20",
    ):  # work directories in the examples
        WorkDir(tmp_path / name, Recipe(), {})
    for name in ("street", "se_seed0"):
        WorkDir(tmp_path / name, detection.RECIPES["scenes"], {}, task="detection")
    for name in ("run/exports/model.int8.tflite", "run/exports/model.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "phone" / "exports").mkdir()
    (tmp_path / "phone" / "exports" / "model.int8.tflite").touch()
    monkeypatch.chdir(tmp_path)
    _, *words = shlex.split(line, comments=True)
    command, arguments = keras_senet_cli.split_command(words)
    assert read_options(command, CLASSES[command], arguments) is not None


@pytest.mark.parametrize("model", models.__all__)
def test_every_network_is_named(model):
    assert f"`{model}`" in (ROOT / "docs/networks.md").read_text()


PLACES = {
    place for page in PAGES for place in re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", page.read_text())
}


@pytest.mark.parametrize(("file", "name"), sorted(PLACES))
def test_places_in_the_code_exist(file, name):
    """`FILE` or `FILE::NAME`, the latter at the top of a module."""
    tree = ast.parse((ROOT / file).read_text())
    names = {getattr(node, "name", None) for node in tree.body}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    assert not name or name in names


def links(file):
    """Where the links of a document lead, but for those in code."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", read(file), flags=re.MULTILINE | re.DOTALL)
    return [first or second for first, second in LINK.findall(text)]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links(file):
    """Those to other hosts are well-formed, and those within the repository name files; pages of
    the site that are not in docs/ are for its strict build to find.
    """
    for link in links(file):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in ("https", "http"), link
            assert re.fullmatch(r"localhost:\d+|[\w-]+(\.[\w-]+)+", parts.netloc), link
        elif parts.path and file not in PAGES:
            assert (file.parent / unquote(parts.path)).exists(), link


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as CI builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    done = subprocess.run([*command, folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.docs
def test_every_public_name_has_a_place(site):
    """`objects.inv` is Sphinx' list of what is documented where."""
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    documented = {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}
    assert not set(public_names()) - documented


def public_names():
    """The names in `__all__` of the package and of the packages in it."""
    import importlib
    import pkgutil

    import keras_senet

    found = pkgutil.walk_packages(keras_senet.__path__, "keras_senet.")
    packages = ["keras_senet", *(each.name for each in found if each.ispkg)]
    for name in packages:
        for public in getattr(importlib.import_module(name), "__all__", ()):
            yield f"{name}.{public}"


@pytest.mark.docs
def test_nothing_is_loaded_from_another_host(site):
    loaded = re.compile(
        r"<(?:script|img|iframe|source|video|object|embed)\b[^>]*?\b(?:src|data)=[\"']?(https?:)?//"
        r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))"
        r"[^>]*\bhref=[\"']?(https?:)?//"
        r"|url\([\"']?(https?:)?//|@import [\"'](https?:)?//"
    )
    files = [file for kind in ("html", "css") for file in site.rglob(f"*.{kind}")]
    assert files
    assert not [
        f"{f.relative_to(site)}: {m[0]}" for f in files for m in loaded.finditer(f.read_text())
    ]
