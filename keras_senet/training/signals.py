"""Being told to stop, by the machine (SIGTERM) or by the user (SIGINT)."""

import contextlib
import signal
import threading

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command continues the run


class Terminated(SystemExit):
    """The run was told to stop and saved a checkpoint; uncaught, it ends with status 75."""

    def __init__(self):
        super().__init__(TRY_AGAIN)

    def __str__(self) -> str:
        return "terminated after a checkpoint; the same command continues the run"


class WorkerLost(Terminated):
    """Another worker ended; the run goes on from the last checkpoint when all are started again."""

    def __str__(self) -> str:
        return (
            "another worker was lost; start all of them again to continue from the last checkpoint"
        )


class Interruption(contextlib.AbstractContextManager):
    """Within, SIGTERM and SIGINT wait for the end of the step; a second SIGINT does not.

    `requested` is the signal that came, or None. Python handles signals in the main thread only:
    in another one nothing is done.
    """

    def __init__(self):
        self.requested = None
        self._kept = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._kept[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception):
        for number, handler in self._kept.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if number == signal.SIGINT and self.requested == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = number

    def error(self) -> BaseException:
        """The exception that ends the run."""
        return KeyboardInterrupt() if self.requested == signal.SIGINT else Terminated()
