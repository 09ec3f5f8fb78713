"""Means and standard deviations of numbers that arrive in batches."""

import numpy as np


class Moments:
    """Means and deviations of rows of numbers (N, channels), by class and over all, as the rows
    arrive.

    Batches are merged by the formula of Chan, Golub and LeVeque (1979) in float64, as a sum of
    squares would lose the deviations of numbers that hardly differ. The last row of each array is
    of all classes.

    counts   (classes + 1,)
    means    (classes + 1, channels)
    squares  (classes + 1, channels): the sums of squared deviations from the mean
    """

    def __init__(self, classes, channels):
        self.counts = np.zeros(classes + 1, "int64")
        # `full` takes the memory now, and not when a class first arrives.
        self.means, self.squares = (np.full((classes + 1, channels), 0.0) for _ in range(2))

    def add(self, values, classes):
        """Takes in values (N, channels) of the classes (N,); class -1 counts among all only."""
        order = classes.argsort(kind="stable")
        values = values[order].astype("float64")
        present, firsts = np.unique(classes[order], return_index=True)
        parts = _moments(values, firsts)
        known = present >= 0
        self._merge(present[known], *(part[known] for part in parts))
        self._merge(np.array([len(self.counts) - 1]), *_moments(values, np.array([0])))

    def _merge(self, rows, counts, means, squares):
        before = self.counts[rows]
        total = before + counts
        change = means - self.means[rows]
        self.means[rows] += change * (counts / total)[:, None]
        self.squares[rows] += squares + change**2 * (before * counts / total)[:, None]
        self.counts[rows] = total

    def finish(self):
        """(means, standard deviations as `np.std`), NaN for an empty class, in the same arrays."""
        self.means[self.counts == 0] = np.nan
        with np.errstate(invalid="ignore"):
            self.squares /= self.counts[:, None]
        return self.means, np.sqrt(self.squares, out=self.squares)


def _moments(values, firsts):
    """Counts, means and summed squared deviations of the groups of rows that begin at `firsts`."""
    counts = np.diff(np.append(firsts, len(values)))
    means = np.add.reduceat(values, firsts) / counts[:, None]
    return counts, means, np.add.reduceat((values - np.repeat(means, counts, axis=0)) ** 2, firsts)
