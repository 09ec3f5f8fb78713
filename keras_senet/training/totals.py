"""Loss and correct predictions of an epoch so far."""

from keras_senet.training.step import Outcome


class Totals:
    """Sums of the epoch so far; waits for the device only in `read`."""

    def __init__(self, loss: float = 0.0, correct: float = 0.0):
        self.loss, self.correct, self.last_loss, self.stop = loss, correct, 0.0, False
        self._unread: list[tuple[int, Outcome]] = []

    def add(self, step: int, outcome: Outcome) -> None:
        """Keeps the outcome of a step, which may still be computed."""
        self._unread.append((step, outcome))

    def read(self) -> int | None:
        """Adds up the outcomes since the last call; returns the first step that failed, or None."""
        unread, self._unread = self._unread, []
        for step, outcome in unread:
            self.last_loss = float(outcome.loss)
            if outcome.failed:
                return step
            self.loss += self.last_loss
            self.correct += float(outcome.correct)
            self.stop = self.stop or bool(outcome.stop)
        return None
