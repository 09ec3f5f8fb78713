"""Wheel, sdist and editable install hold the same modules, keras_senet.export among them."""

import ast
import email
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import keras_senet

ROOT = Path(__file__).parents[1]
CORE = ("cyclopts", "h5py", "keras", "numpy", "rich")  # without TensorFlow
LARGEST = 1 << 20  # bytes of a file
# All that a wheel may have; tests, results, notebooks and tables of other kinds are not among it.
IN_WHEEL = (
    r"keras_senet_cli\.py",
    r"keras_senet/([a-z0-9_]+/)*[a-z0-9_]+\.py",
    r"keras_senet/(py\.typed|imagenet_classes\.txt|latency\.csv|networks\.csv)",
    r"keras_senet/weights/files/\w+-[\w-]+\.safetensors",
    r"keras_senet/report/templates/\w+\.(html|css|js)",
    r"keras_senet/export/README\.md",
    r"keras_senet/export/web/(\w+\.(html|css|js|json|svg|md)|\.npmrc)",
    r"keras_senet-[\d.]+\.dist-info/(METADATA|RECORD|WHEEL|entry_points\.txt|top_level\.txt)",
    r"keras_senet-[\d.]+\.dist-info/licenses/LICENSE",
)
GENERATED = ("PKG-INFO",)  # of an sdist, besides keras_senet.egg-info/
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel built from an sdist, by the tools of the environment."""
    folder = tmp_path_factory.mktemp("dist")
    leftovers = shutil.ignore_patterns(
        *(".git", ".venv", ".*_cache", ".coverage", "venv", "others", "*.egg-info", "build"),
        *("dist", "__pycache__", "node_modules", "ort", "quickstart", "exports", "site", "typings"),
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
    return zipfile.ZipFile(wheel), tarfile.open(sdist), checkout


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
    names = set(built[0].namelist())
    assert {str(target) for _, target in sources()} <= names
    for pattern in ("*.csv", "*.txt", "py.typed", "weights/files/*", "report/templates/*"):
        files = {str(file.relative_to(ROOT)) for file in ROOT.glob(f"keras_senet/{pattern}")}
        assert files
        assert files <= names
    pages = {f"keras_senet/export/web/{file.name}" for file in ROOT.glob("export/web/*.*")}
    assert {"keras_senet/export/README.md", *pages} <= names
    assert f"keras_senet-{keras_senet.__version__}.dist-info/licenses/LICENSE" in names


def test_the_wheel_has_nothing_else(built):
    names = built[0].namelist()
    assert not [n for n in names if not any(re.fullmatch(each, n) for each in IN_WHEEL)]
    assert not [each.filename for each in built[0].infolist() if each.file_size > LARGEST]


def test_the_sdist_is_the_checkout(built):
    """With tests, documentation and results, so that the tests run from it; the wheel was built
    from it.
    """
    members = {member.name.partition("/")[2]: member for member in built[1] if member.isfile()}
    names = {name for name in members if not name.startswith("keras_senet.egg-info/")}
    checkout = {str(f.relative_to(built[2])) for f in built[2].rglob("*") if f.is_file()}
    checkout = {name for name in checkout if not name.startswith("keras_senet.egg-info/")}
    assert names - {*GENERATED} <= checkout
    assert checkout - names <= {".gitignore"}
    assert not [name for name, member in members.items() if member.size > LARGEST]
    assert {"tests/conftest.py", "tests/cifar10.npz", "LICENSE", "CITATION.cff"} <= names


def test_the_description_is_the_readme(built):
    (name,) = (n for n in built[0].namelist() if n.endswith("METADATA"))
    metadata = email.message_from_bytes(built[0].read(name))
    assert metadata["Version"] == keras_senet.__version__
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert metadata["Project-URL"] == "Paper, https://arxiv.org/abs/1709.01507"


def test_the_version_is_stated_once_more_where_people_read_it():
    version = keras_senet.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", CHANGELOG, re.MULTILINE)
    assert newest.groups() == (version, str(citation["date-released"]))
    assert citation["version"] == version


def test_links_of_the_readme_become_absolute():
    """PyPI shows the README without the repository around it."""
    spec = importlib.util.spec_from_file_location("links", ROOT / ".ci" / "absolute_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "![Gates](results/a.png) [b](docs/b.md#c) [d](https://e.org) [f](#g)"
    found = module.absolute(text, "https://host/us/it", "v1")
    assert found.startswith(
        "![Gates](https://host/us/it/raw/v1/results/a.png) [b](https://host/us/it/blob/v1/docs/b.md"
        "#c) [d](https://e.org) [f](#g)"
    )
    readme = module.absolute((ROOT / "README.md").read_text(), "https://host/us/it", "v1")
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert links
    assert all(link.startswith("https://") for link in links)


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
    assert extras == {*users, "backends", "peers", "docs", "dev"}
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


def test_the_workflows_run_what_contributors_run():
    """`.ci/run`, with every Python that it looks for; and a release of the tag's version only."""
    folder = ROOT / ".github" / "workflows"
    ci, release = (
        yaml.safe_load((folder / f"{name}.yml").read_text()) for name in ("ci", "release")
    )
    steps = ci["jobs"]["tests"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]
    (given,) = (step["with"]["python-version"] for step in steps if "setup-python" in str(step))
    asked = re.findall(r"interpreter (3\.\d+)", (ROOT / ".ci" / "run").read_text())
    assert sorted(given.split()) == sorted(asked) == ["3.11", "3.12", "3.13"]
    *_, upload = ci["jobs"]["docs"]["steps"]
    assert upload["with"]["path"] == yaml.safe_load((ROOT / "mkdocs.yml").read_text())["site_dir"]
    checks = "\n".join(step.get("run", "") for step in release["jobs"]["build"]["steps"])
    for command in ("keras_senet_cli.__version__", "python -m build", "twine check --strict"):
        assert command in checks
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
