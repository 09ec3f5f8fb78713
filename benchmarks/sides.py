"""The sides of a comparison, each in a process of its own: one's threads and memory are not the
other's.
"""

import os
import resource
import subprocess
import sys


class Side:
    """A function that runs in a process of its own, as `serve` in the module `script` makes it.

    `environment` has variables for that process besides those of this one.
    """

    def __init__(self, script, *arguments, environment=None):
        command = [sys.executable, script, "--child", *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(
            command, text=True, env=os.environ | (environment or {}), **pipes
        )

    def __call__(self, *arguments):
        return float(self._ask(" ".join(map(str, ("run", *arguments)))))

    def finish(self):
        """The peak of the process' memory in MiB, and how much of it came after its imports."""
        peak, imported = map(float, self._ask("memory").split())
        self.process.communicate()
        return peak, peak - imported

    def _ask(self, question):
        print(question, file=self.process.stdin, flush=True)
        reply = self.process.stdout.readline()
        if not reply:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended early")
        return reply


def serve(load, prepare):
    """What the process of a side does: `load()` imports, `prepare()` returns the function to be
    timed.
    """
    replies, sys.stdout = sys.stdout, sys.stderr  # the libraries also print
    load()
    imported = peak_memory()
    run = prepare()
    for question in sys.stdin:
        word, *arguments = question.split()
        reply = [run(*arguments)] if word == "run" else [peak_memory(), imported]
        print(*reply, file=replies, flush=True)


def peak_memory():
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
