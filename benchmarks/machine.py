"""What a measurement depends on: the machine, its other work, and the versions of libraries."""

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

import keras_senet_cli

PACKAGES = (
    "tensorflow keras jax torch timm torchvision onnxruntime ai-edge-litert openvino keras-hub "
    "tf2cv image-classifiers tf-keras"
).split()


def describe():
    """The columns of a row that say where and when it was measured."""
    return {
        "load": round(os.getloadavg()[0], 2),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "isa": keras_senet_cli.instruction_set(),
        "gpu": gpu_name(),
        "versions": ", ".join(versions()),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
    }


def cpu_name():
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def gpu_name():
    """As its driver calls it; empty without one."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return ", ".join(subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[:1])


def versions():
    """Of Python, of this package with its commit, and of what it is compared with."""
    yield f"python {platform.python_version()}"
    yield f"keras_senet {keras_senet_cli.__version__}{commit()}"
    for name in PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def commit():
    """ " (abcdef0)"; nothing outside a clone."""
    command = ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({found})"


class Watch:
    """How many cores the machine's other work has used since it was made."""

    def __init__(self):
        self._start, self._busy, self._own = time.perf_counter(), _busy_seconds(), 0.0

    def count(self, seconds):
        """Adds CPU time that was not other work."""
        self._own += seconds

    def others(self):
        taken = time.perf_counter() - self._start
        return max(0.0, _busy_seconds() - self._busy - self._own) / max(taken, 1e-9)


def _busy_seconds():
    """CPU time of all processes since the start of the system, and what its host took: 0 where it
    is not known.
    """
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
