"""Runs a comparison: the rounds of all subjects alternate, so that a slow moment of the machine
meets all.
"""

import contextlib
import json
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from benchmarks.side import ROOT, last_line

LIMIT = 1200  # seconds for a reply
LONGEST_ERROR = 160


class Options(NamedTuple):
    """Of a run.

    threads  of each subject
    before   a folder with an earlier version of the package, to be measured, too; or None
    quick    whether the settings are those that take little time
    rounds   of each subject
    seconds  the least that a round takes
    warm_up  calls before the first round
    at_once  whether all subjects prepare at once
    """

    threads: int
    before: str | None
    quick: bool
    rounds: int
    seconds: float
    warm_up: int
    at_once: bool = True


class Process:
    """A subject in a process of its own. What fails is kept in `error`; nothing is asked then."""

    def __init__(self, subject, environment):
        self.subject, self.error, self._loaded = subject, None, False
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side"],
            cwd=ROOT,
            env=os.environ | environment | dict(subject.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def ask(self, do, **request):
        """The reply, or {} after an error."""
        self.send(do, **request)
        return self.receive()

    def send(self, do, **request):
        """Asks for something, without waiting for the reply. What one setting cannot do another
        one may.
        """
        self._asked = do
        if do == "prepare" and self._loaded and self._process.poll() is None:
            self.error = None
        if not self.error:
            with contextlib.suppress(OSError):  # it has ended: `receive` says so
                self._process.stdin.write(json.dumps({"do": do} | request).encode() + b"\n")
                self._process.stdin.flush()

    def receive(self):
        """The reply to what was sent."""
        if self.error:
            return {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(LIMIT) else None
        reply = json.loads(line) if line else {"error": self._explain(line)}
        self.error = reply.pop("error", None)
        self._loaded |= self._asked == "load" and not self.error
        return reply

    def _explain(self, line):
        """Why there is no reply: how the process ended, and what it said last."""
        if line is None:
            self._process.kill()
            return f"no reply in {LIMIT} s"
        code = self._process.wait()
        self._log.seek(0)
        ended = f"ended by signal {-code}" if code < 0 else f"ended with {code}"
        return f"{ended}: {last_line(self._log.read())}".rstrip(": ")

    def stop(self):
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def run_case(case, options: Options):
    """Yields a row for each setting and subject of a case, measured with `Options`."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        processes, requests = [], []
        for subject, path in _versions(case.subjects, options.before):
            environment = {"OMP_NUM_THREADS": str(options.threads)}
            process = Process(subject, environment)
            stack.callback(process.stop)
            processes.append(process)
            given = {"folder": folder, "threads": options.threads}
            arguments = given | dict(subject.arguments)
            request = {"do": "load", "prepare": subject.prepare, "imports": subject.imports}
            request |= {"arguments": arguments, "path": path, "hidden": subject.hidden}
            requests.append(request)
        ask_all(processes, requests, options.at_once)
        for setting in case.quick if options.quick else case.settings:
            yield from _measure(case, setting, processes, options)


def ask_all(processes, requests, at_once):
    """What is not timed: all processes work at once, or one after another."""
    pairs = list(zip(processes, requests, strict=True))
    for batch in [pairs] if at_once else [[pair] for pair in pairs]:
        for process, request in batch:
            process.send(**request)
        for process, _ in batch:
            process.receive()


def _versions(subjects, before):
    """(subject, folder that it is imported from), also of an earlier version where there is one."""
    for subject in subjects:
        yield subject, None
        if before and "keras_senet" in subject.imports:
            yield subject.renamed(f"{subject.name}, before"), str(Path(before).resolve())


def in_words(setting):
    """ "batch 16, size 224" """
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def _measure(case, setting, processes, options):
    """The rows of one setting."""
    request = {"do": "prepare", "setting": dict(setting), "warm_up": options.warm_up}
    ask_all(processes, [request] * len(processes), options.at_once)
    rounds = [[] for _ in processes]
    watch = machine.Watch()
    for _ in range(options.rounds):
        for process, taken in zip(processes, rounds, strict=True):
            if reply := process.ask("time", seconds=options.seconds):
                taken.append(reply)
                watch.count(reply["used"])
    others = watch.others()
    for process, taken in zip(processes, rounds, strict=True):
        memory = process.ask("finish")
        error = _shorten(process.error)
        row = {
            "network": case.network,
            "setting": in_words(setting),
            "subject": process.subject.name,
            "plain": "yes" if process.subject.plain else "",
            **({"error": error} if error else _summarize(taken, memory)),
        }
        yield row | {
            "rounds": options.rounds,
            "threads": options.threads,
            "onednn": memory.get("onednn", ""),
            "others": round(others, 2),
        }


def _shorten(error):
    """An error without the folders of this machine, as a part of a line."""
    text = (error or "").replace(sys.prefix, "").replace(str(ROOT), "").replace("|", "/")
    return text if len(text) <= LONGEST_ERROR else text[: LONGEST_ERROR - 3] + "..."


def _summarize(taken, memory):
    """ms and MiB of rounds."""
    seconds = [each["seconds"] for each in taken]
    median = statistics.median(seconds)
    return {
        "median_ms": round(1000 * median, 3),
        "minimum_ms": round(1000 * min(seconds), 3),
        "spread": round((max(seconds) - min(seconds)) / median, 3),
        "cpu_ms": round(1000 * min(each["cpu"] for each in taken), 3),
        "peak_mib": round(memory["peak"]),
        "after_imports_mib": round(memory["after_imports"]),
    }
