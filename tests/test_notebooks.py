"""Every notebook runs from top to bottom, and what is saved in it came from such a run."""

import ast
import contextlib
import io
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import shallow
from eager import run_eagerly
from IPython.core.formatters import DisplayFormatter
from run_here import run_files_here

from keras_senet import data
from keras_senet.initializers import blank
from keras_senet.recipes import RECIPES

FOLDER = Path(__file__).parents[1] / "notebooks"
FILES = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300 * 1024  # bytes of a file with its pictures
PATH = re.compile(
    r"(?<![\w.:/~-])(/(?:[\w.+-]+/)+[\w.+-]+|[A-Z]:\\)"
)  # absolute; addresses on the web have a scheme

every_notebook = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file):
    return nbformat.read(file, as_version=4)


def run(*arguments):
    """Runs notebooks/run.py in a process of its own."""
    return subprocess.run(
        [sys.executable, FOLDER / "run.py", *arguments], capture_output=True, text=True
    )


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(output):
    """What a reader sees of an output as text."""
    return [
        output.get("text", ""),
        *(text for kind, text in output.get("data", {}).items() if kind != "image/png"),
    ]


def kinds(notebook):
    """For each code cell the kinds of its outputs."""
    return [
        [
            (output.output_type, output.get("name"), sorted(output.get("data", ())))
            for output in cell.outputs
        ]
        for cell in code_cells(notebook)
    ]


def check_clean(notebook):
    """The cells were run once, in their order, without errors and warnings, and name no place of a
    machine.
    """
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    machine = {str(FOLDER.parent), str(Path.home()), sys.prefix, tempfile.gettempdir()}
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output
        for text in texts(output):
            assert not PATH.search(text), text
            assert not [place for place in machine if place != "/" and place in text], text


def test_there_are_notebooks():
    assert [file.name[:2] for file in FILES] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.slow  # how kernels run notebooks is shown below, by small ones
@every_notebook
def test_it_runs_in_a_kernel_and_gives_what_is_saved(file, tmp_path):
    finished = run("--quick", "--output", tmp_path, file)
    assert finished.returncode == 0, finished.stderr
    fresh = read(tmp_path / file.name)
    check_clean(fresh)
    assert kinds(fresh) == kinds(read(file))


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """This process as a notebook finds its kernel; exported files run here too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)  # figures are shown at the end of their cell
    run_files_here(monkeypatch)
    with matplotlib.rc_context():
        yield
    plt.close("all")
    logging.disable(logging.NOTSET)


def take_fewer_digits(monkeypatch, **counts):
    """So many of each class, which follow one another, of a split."""
    digits = data.DATASETS["digits"]

    def fewer(split):
        whole = digits(split)
        places = [np.flatnonzero(whole.labels == label)[: counts[split]] for label in range(10)]
        chosen = np.stack(places, axis=1).ravel()
        return data.Dataset(whole.images[chosen], whole.labels[chosen], whole.class_names)

    monkeypatch.setitem(data.DATASETS, "digits", fewer)


def execute(notebook):
    """Runs the quick source of each code cell here, which saves its process, and puts its outputs
    into the cell.
    """
    names = {"__name__": "__main__"}
    for count, cell in enumerate(code_cells(notebook), start=1):
        *statements, last = ast.parse(cell.metadata.get("quick", cell.source)).body
        shown = isinstance(last, ast.Expr)
        with (
            contextlib.redirect_stdout(io.StringIO()) as said,
            contextlib.redirect_stderr(io.StringIO()) as warned,
        ):
            exec(
                compile(
                    ast.Module(statements if shown else [*statements, last], []), "cell", "exec"
                ),
                names,
            )
            value = (
                eval(compile(ast.Expression(last.value), "cell", "eval"), names) if shown else None
            )
        texts = {"stdout": said.getvalue(), "stderr": warned.getvalue()}
        results = [
            nbformat.v4.new_output("stream", name=name, text=text)
            for name, text in texts.items()
            if text
        ]
        if value is not None:
            results.append(displayed("execute_result", value))
        results += [displayed("display_data", plt.figure(number)) for number in plt.get_fignums()]
        plt.close("all")
        cell.outputs, cell.execution_count = results, count
    return notebook


def displayed(kind, value):
    """As IPython shows a value."""
    if isinstance(value, matplotlib.figure.Figure):
        value.savefig("figure.png")
        return nbformat.v4.new_output(kind, data={"image/png": "", "text/plain": str(value)})
    return nbformat.v4.new_output(kind, data=DisplayFormatter().format(value)[0])


# SE-ResNet-20 with fewer blocks, as a step of it is traced: 01 loads a file of it by its name, 04
# shows block 2 of stage 2 and block 3 of stage 3.
DEPTHS = {"01": (1, 1, 1), "04": (1, 2, 3)}
# Digits of each class to train on and to test on: 02 trains in batches of 32 on half of them, 05
# for 40 epochs.
COUNTS = {"02": (7, 2), "05": (4, 1)}


# What trains takes few steps, which are not traced. 02 trains three networks, 05 writes five files,
# and 06 trains a detector: each over 5 s. 03 builds SE-ResNet-50 four times, here shallow and
# without random numbers.
@every_notebook
@pytest.mark.usefixtures("lesson")
def test_it_gives_what_is_saved(file, monkeypatch):
    number = file.stem[:2]
    if depths := DEPTHS.get(number):
        fewer_blocks = RECIPES["digits"].override(depths=depths)
        monkeypatch.setitem(RECIPES, "digits", fewer_blocks)
        shallow.set_depths(monkeypatch, "SEResNet20", depths)
    if number == "03":
        shallow.cut_resnet50s(monkeypatch)
    train, test = COUNTS.get(number, (15, 4))
    take_fewer_digits(monkeypatch, train=train, test=test)
    with blank() if number == "03" else run_eagerly():
        fresh = execute(read(file))
    check_clean(fresh)
    assert kinds(fresh) == kinds(read(file))


@every_notebook
def test_what_is_saved_is_clean(file):
    notebook = read(file)
    nbformat.validate(notebook)
    check_clean(notebook)
    assert not [cell for cell in notebook.cells if PATH.search(cell.source)]
    assert file.stat().st_size < LARGEST


@every_notebook
def test_it_reads_as_a_lesson(file):
    notebook = read(file)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \w.+\n\n\w", first.source)
    assert any("image/png" in shown for outputs in kinds(notebook) for _, _, shown in outputs)
    for link in re.findall(r"\]\(([^)]+)\)", "\n".join(cell.source for cell in notebook.cells)):
        assert link.startswith("https://") or (FOLDER / link).exists(), link


def assigned(source):
    """The names that a cell of assignments gives values, in their order."""
    return [target.id for node in ast.parse(source).body for target in node.targets]


@every_notebook
def test_quick_cells_set_the_same_names(file):
    quick = [cell for cell in code_cells(read(file)) if "quick" in cell.metadata]
    assert quick
    for cell in quick:
        assert assigned(cell.metadata["quick"]) == assigned(cell.source)


def test_the_index_names_all():
    index = (FOLDER / "README.md").read_text()
    assert re.findall(r"\((\d\d_\w+\.ipynb)\)", index) == [file.name for file in FILES]


def saved(path, *sources, **metadata):
    """A notebook of some code cells."""
    cells = [nbformat.v4.new_code_cell(source, metadata=metadata) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_the_kernel_is_this_interpreter_in_an_empty_folder(tmp_path):
    file = saved(
        tmp_path / "a.ipynb", "import os, sys\nprint(sys.executable, os.listdir())", quick=""
    )
    assert run(file).returncode == 0
    (cell,) = read(file).cells
    assert cell.outputs[0].text == f"{sys.executable} []\n"


def test_quick_runs_the_quick_source_and_keeps_the_file(tmp_path):
    file = saved(tmp_path / "a.ipynb", "print('slow')", quick="print('quick')")
    before = file.read_bytes()
    assert run("--quick", file).returncode == 2
    (tmp_path / "quick").mkdir()
    assert run("--quick", "--output", tmp_path / "quick", file).returncode == 0
    assert read(tmp_path / "quick" / file.name).cells[0].outputs[0].text == "quick\n"
    assert file.read_bytes() == before


def test_a_cell_that_fails_is_shown_and_nothing_saved(tmp_path):
    file = saved(tmp_path / "a.ipynb", "print('before')", "1 / 0")
    before = file.read_bytes()
    finished = run(file)
    assert finished.returncode == 1
    assert "ZeroDivisionError" in finished.stderr
    assert file.read_bytes() == before
