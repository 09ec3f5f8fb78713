"""Imports between packages point one way (the layout in CONTRIBUTING): from higher to lower."""

import graphlib
import itertools
import shutil
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]

# From the highest to the lowest; packages of one row may use each other, in one direction.
LAYERS = (
    ("cli",),
    ("report", "export"),
    ("detection", "analysis"),
    ("evaluation", "training"),
    ("recipes", "data"),
    ("models",),
    ("weights",),
    ("layers",),
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The imports between all modules as they are installed, also those inside functions, but
    those for type checkers only.
    """
    folder = tmp_path_factory.mktemp("installed")
    others = shutil.ignore_patterns("web", "__pycache__")
    shutil.copytree(ROOT / "keras_senet", folder / "keras_senet", ignore=others)
    shutil.copytree(ROOT / "export", folder / "keras_senet" / "export", ignore=others)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "keras_senet", raising=False)
        return grimp.build_graph("keras_senet", exclude_type_checking_imports=True, cache_dir=None)


@pytest.fixture(scope="module")
def imports(graph):
    """(importing package, imported package) -> "module -> module" for each import; a module at the
    top counts as a package.
    """
    found = {}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            if (pair := (_package(importer), _package(imported)))[0] != pair[1]:
                found.setdefault(pair, []).append(f"{importer} -> {imported}")
    return found


def _package(module):
    """ "keras_senet.data.order" -> "data"; of keras_senet itself it is "" """
    return ".".join(module.split(".")[1:2])


def test_no_arrow_points_upward(graph):
    layers = [grimp.Layer(*row, independent=False) for row in LAYERS]
    upward = graph.find_illegal_dependencies_for_layers(layers, containers={"keras_senet"})
    assert not {f"{each.importer} -> {each.imported}" for each in upward}


def test_no_packages_import_each_other(imports):
    """Neither two of them nor more in a circle."""
    uses = {}
    for importer, imported in imports:
        uses.setdefault(importer, set()).add(imported)
    try:
        graphlib.TopologicalSorter(uses).prepare()
    except graphlib.CycleError as error:
        pairs = itertools.pairwise(error.args[1])  # each is imported by the next
        pytest.fail(
            "\n".join(each for imported, importer in pairs for each in imports[importer, imported]),
            pytrace=False,
        )


def test_only_the_command_line_knows_itself_and_the_whole_package(imports):
    """`import keras_senet` in a module would import what that module is a part of."""
    upward = [
        modules
        for (importer, imported), modules in imports.items()
        if imported in ("cli", "") and importer
    ]
    assert not [
        each for modules in upward for each in modules if not each.startswith("keras_senet.cli")
    ]
