"""Executes notebooks and saves them with their outputs: `python notebooks/run.py [--quick] [--output DIR] [FILE ...]`.

A new kernel of this interpreter runs each notebook in an empty folder of its own, which is removed afterwards together with
its temporary files. With `--quick`, a cell with `quick` in its metadata runs that source instead: fewer epochs, for tests.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")  # avoids a warning of jupyter_core

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

HERE = Path(__file__).parent
SECONDS = 600  # per cell


def execute(notebook, quick=False):
    """Runs a notebook's cells and stores their outputs. Raises `CellExecutionError` if a cell fails."""
    if quick:
        for cell in notebook.cells:
            cell.source = cell.metadata.get("quick", cell.source)
    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        folder = Path(folder)
        write_kernel_spec(folder / "kernels" / "python3")
        for name in ("work", "tmp"):
            (folder / name).mkdir()
        manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder / "kernels")]),
            connection_file=str(folder / "kernel.json"),
            transport="ipc",  # a port could be taken by another kernel before this one binds it
            ip=str(folder / "kernel"),
        )
        client = NotebookClient(
            notebook,
            manager,
            timeout=SECONDS,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder / "work"}},
        )
        places = {"IPYTHONDIR": str(folder / "ipython"), "TMPDIR": str(folder / "tmp")}
        client.execute(cleanup_kc=True, env=os.environ | places)
    return notebook


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="default: all of this folder"
    )
    parser.add_argument("--quick", action="store_true", help="with fewer epochs")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to save; default: in place"
    )
    options = parser.parse_args()
    if options.quick and not options.output:
        parser.error("--quick needs --output: its results are not for readers")
    for file in options.files or sorted(HERE.glob("*.ipynb")):
        start = time.monotonic()
        notebook = execute(nbformat.read(file, as_version=4), options.quick)
        nbformat.write(notebook, (options.output or file.parent) / file.name)
        print(f"{file.name}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
