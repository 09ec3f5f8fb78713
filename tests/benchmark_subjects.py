"""Subjects of tests/test_benchmarks.py: each runs in a process of its own."""

import os
import time
from pathlib import Path


def count(folder, threads, log, name, batch):
    """Writes its name into a log at each call."""

    def run():
        with Path(log).open("a") as file:
            file.write(f"{name}{batch} ")

    return run


def sleep(folder, threads, seconds):
    """Sleeps longer at each call."""
    calls = iter(range(1, 100))
    return lambda: time.sleep(seconds * next(calls))


def fail(folder, threads, **setting):
    raise ValueError(f"no network | {setting}")


def fail_in_small(folder, threads, batch):
    if batch == 1:
        raise ValueError("too small")
    return lambda: None


def die(folder, threads, **setting):
    print("out of memory")
    os.abort()


def work(folder, threads, seconds):
    """Two steps of CPU time, and as much sleep."""

    def run():
        start = time.process_time()
        while time.process_time() - start < seconds:
            pass
        time.sleep(seconds)

    run.steps = 2
    return run


def find(folder, threads, **setting):
    """Needs a library, which may be hidden."""
    import sqlite3

    return sqlite3.connect


def write(path):
    with Path(path).open("a") as file:
        file.write("once ")
