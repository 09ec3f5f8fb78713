"""Wheel, sdist and editable install hold the same modules, keras_senet.export among them."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import keras_senet

ROOT = Path(__file__).parents[1]
CORE = ("cyclopts", "h5py", "keras", "numpy", "rich")  # without TensorFlow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel built from an sdist, by the tools of the environment."""
    folder = tmp_path_factory.mktemp("dist")
    leftovers = shutil.ignore_patterns(
        ".*", "*.egg-info", "build", "dist", "__pycache__", "node_modules", "ort"
    )
    checkout = shutil.copytree(ROOT, folder / "checkout", ignore=leftovers)
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(checkout),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return zipfile.ZipFile(wheel), tarfile.open(sdist)


def sources():
    """Where each module of the checkout belongs in the wheel."""
    for path in (
        *ROOT.glob("keras_senet/**/*.py"),
        *ROOT.glob("export/**/*.py"),
        ROOT / "keras_senet_cli.py",
    ):
        relative = path.relative_to(ROOT)
        yield relative, Path("keras_senet", relative) if relative.parts[0] == "export" else relative


def test_the_wheel_has_every_module_where_it_is_imported_from(built):
    names = built[0].namelist()
    expected = {str(target) for _, target in sources()} | {
        "keras_senet/py.typed",
        "keras_senet/imagenet_classes.txt",
        "keras_senet/networks.csv",
        "keras_senet/export/README.md",
    }
    for pattern in ("weights/files/*.safetensors", "report/templates/*"):
        expected |= {str(file.relative_to(ROOT)) for file in ROOT.glob(f"keras_senet/{pattern}")}
    assert expected == {name for name in names if ".dist-info" not in name}


def test_the_sdist_has_every_source(built):
    names = {name.partition("/")[2] for name in built[1].getnames()}
    assert {str(source) for source, _ in sources()} | {
        "README.md",
        "LICENSE",
        "setup.cfg",
        "pyproject.toml",
    } <= names


def test_an_installed_wheel_imports(built, tmp_path):
    """The core alone names the extra for what it lacks; here every library is there. Its process
    imports TensorFlow.
    """
    built[0].extractall(tmp_path)
    code = "import keras_senet as k, keras_senet.export as e; print(e.__file__); print(k.__file__)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [
        str(tmp_path / "keras_senet" / p / "__init__.py") for p in ("export", "")
    ]


def test_extras_and_script(built):
    metadata = next(
        built[0].read(n).decode() for n in built[0].namelist() if n.endswith("METADATA")
    )
    extras = {
        line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")
    }
    users = {"tensorflow", "train", "export", "weights", "analysis", "detection", "all"}
    assert extras == {*users, "backends", "peers", "dev"}
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    core = {line.split(": ")[1] for line in needed if "extra ==" not in line}
    assert {re.match(r"[\w-]+", each)[0] for each in core} == {*CORE}
    scripts = next(
        built[0].read(n).decode() for n in built[0].namelist() if n.endswith("entry_points.txt")
    )
    assert "keras-senet = keras_senet_cli:main" in scripts


def test_names_are_loaded_when_they_are_used():
    """Type checkers see the imports that `HOMES` makes later, from the same modules."""
    tree = ast.parse(Path(keras_senet.__file__).read_text())
    (block,) = (node for node in tree.body if ast.unparse(node).startswith("if TYPE_CHECKING"))
    seen = {alias.name: line.module for line in block.body for alias in line.names}
    seen.pop("*", None)
    assert {
        name: home.removeprefix("keras_senet.") for name, home in seen.items()
    } == keras_senet.HOMES
    assert {*keras_senet.__all__} <= {*dir(keras_senet)}
    assert all(getattr(keras_senet, name) is not None for name in keras_senet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_senet.nothing


def test_a_star_takes_every_public_name():
    names = {}
    exec("from keras_senet import *", names)
    assert names.keys() - {"__builtins__"} == {*keras_senet.__all__}
    assert {"SEResNet50", "SE", "features", "push_to_hub"} <= names.keys()
