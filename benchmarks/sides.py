"""The sides of a comparison, each in a process of its own: one's threads and memory are not the other's."""

import resource
import subprocess
import sys


class Side:
    """A function that runs in a process of its own, as `serve` in the module `script` makes it."""

    def __init__(self, script, *arguments):
        command = [sys.executable, script, "--child", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self):
        return float(self._ask("run"))

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
    """What the process of a side does: `load()` imports, `prepare()` returns the function to be timed."""
    replies, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is no reply
    load()
    imported = peak_memory()
    run = prepare()
    for question in sys.stdin:
        reply = [run()] if question == "run\n" else [peak_memory(), imported]
        print(*reply, file=replies, flush=True)


def peak_memory():
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
