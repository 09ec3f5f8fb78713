"""What the process of a subject does: it imports, prepares, and times calls as it is asked to.

A line of JSON on standard input is a request, one on standard output its reply: the process'
threads and memory are not those of the others.
"""

import contextlib
import fcntl
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]


def resolve(name):
    """The function of ".module:function" in this package, or of "module:function" elsewhere."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module, "benchmarks"), function)


largest = 0  # KiB: the peak of the processes that were measured for this one


def peak_memory():
    """Of this process or, if larger, of those that `run_measured` ran: MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(OSError, StopIteration):
        # getrusage begins with the peak of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return max(own, largest) / 2**10


def helpers_seconds():
    """CPU time of the processes that this one has run, and of its workers."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    workers = [each.cpu_times() for each in psutil.Process().children(recursive=True)]
    living = sum(each.user + each.system for each in workers)
    return ended.ru_utime + ended.ru_stime + living


def time_calls(run, seconds):
    """Seconds of a step, wall and CPU, on average over as many calls as `seconds` take, at least
    one; and CPU seconds of all. A call is `run.steps` steps, if there is such an attribute.
    """
    calls = 0
    before = helpers_seconds() + time.process_time()  # in this order: asking takes time, too
    start = time.perf_counter()
    while not calls or time.perf_counter() - start < seconds:
        run()
        calls += 1
    taken = time.perf_counter() - start
    used = time.process_time() + helpers_seconds() - before
    steps = calls * getattr(run, "steps", 1)
    return {"seconds": taken / steps, "cpu": used / steps, "used": used}


def repeat(steps, run, wait=lambda result: None):
    """A function of so many steps, which waits for the last one."""

    def repeated():
        for _ in range(steps):
            result = run()
        wait(result)

    repeated.steps = steps
    return repeated


def run_measured(command):
    """Runs a command that is what the subject measures: its memory counts.

    Raises:
        RuntimeError: if it fails; says the last line of its errors.
    """
    global largest
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        _check(process.returncode, log.read())
    largest = max(largest, usage.ru_maxrss)


def make_once(path, name, *arguments):
    """A path, which ".module:function" has made if it did not exist: in a process of its own, whose
    memory is not counted, and once where several subjects need it.

    Raises:
        RuntimeError: if it fails; says the last line of its errors.
    """
    command = [sys.executable, "-m", "benchmarks.side", name, *map(str, arguments)]
    with (Path(path).parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not Path(path).exists():
            run = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, errors="replace"
            )
            _check(run.returncode, run.stderr)
    return Path(path)


def _check(code, errors):
    if code:
        raise RuntimeError(last_line(errors) or f"it ended with {code}")


def last_line(text):
    """What a process that failed said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def uses_onednn():
    """Whether TensorFlow, if this process has imported it, computes with oneDNN."""
    if "tensorflow" not in sys.modules:
        return ""
    from keras_senet.cpu import uses_onednn

    return "on" if uses_onednn() else "off"


class Subject:
    """The replies to requests: each a method."""

    def load(self, prepare, arguments, imports, path, hidden):
        """Imports what the subject needs, from the folder `path` first if it is given."""
        sys.modules.update(dict.fromkeys(hidden))
        sys.path[:0] = [path] if path else []
        for name in imports:
            importlib.import_module(name)
        self.imported = peak_memory()
        self._prepare, self._arguments = resolve(prepare), arguments

    def prepare(self, setting, warm_up):
        """Makes the function of a setting and calls it."""
        self._run = None  # of the setting before: its memory is free
        self._run = self._prepare(**self._arguments, **setting)
        for _ in range(warm_up):
            self._run()

    def time(self, seconds):
        return time_calls(self._run, seconds)

    def finish(self):
        peak = peak_memory()
        return {"peak": peak, "after_imports": peak - self.imported, "onednn": uses_onednn()}


def describe(error):
    """An error as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def serve(requests, replies):
    subject = Subject()
    for line in requests:
        request = json.loads(line)
        try:
            reply = getattr(subject, request.pop("do"))(**request) or {}
        except (Exception, SystemExit) as error:
            reply = {"error": describe(error)}
        print(json.dumps(reply), file=replies, flush=True)


def main(arguments):
    if arguments:
        resolve(arguments[0])(*arguments[1:])
    else:
        replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # the libraries also print
        serve(sys.stdin, replies)


if __name__ == "__main__":
    # by its name, as the subjects import it: there is one `largest`
    resolve(".side:main")(sys.argv[1:])
