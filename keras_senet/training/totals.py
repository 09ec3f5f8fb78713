"""Loss and figures of an epoch so far."""

from collections.abc import Mapping

from keras_senet.training.step import Outcome


class Totals:
    """Sums of the epoch so far, by name: "loss" and an objective's figures; waits for the device
    only in `read`.
    """

    def __init__(self, sums: Mapping[str, float]):
        self.sums, self.last_loss, self.stop = dict(sums), 0.0, False
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
            self.sums["loss"] += self.last_loss
            for name, value in outcome.figures.items():
                self.sums[name] += float(value)
            self.stop = self.stop or bool(outcome.stop)
        return None
