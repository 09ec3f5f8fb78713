"""Times functions in turn and prints the ratio of the first one's median to each other's."""

import statistics
import time


def take_turns(functions, rounds, warm_up=1):
    """Seconds of each function in each round: they alternate, so that a slow moment of the machine
    meets all.
    """
    for function in functions:
        for _ in range(warm_up):
            function()
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return times


def median_times(functions, rounds, warm_up=1):
    """The median of each function's seconds."""
    return [statistics.median(taken) for taken in take_turns(functions, rounds, warm_up)]


def measure(names, functions, rounds, items=1):
    """Prints ms of each function, items per second and ratios; returns the first ratio."""
    times = take_turns(functions, rounds)
    medians = [statistics.median(taken) for taken in times]
    for name, median, taken in zip(names, medians, times, strict=True):
        spread = f"({1000 * min(taken):.1f} to {1000 * max(taken):.1f})"
        print(f"{name:34} {1000 * median:8.1f} ms {spread:20} {items / median:6.1f}/s")
    ratios = [medians[0] / other for other in medians[1:]]
    print(
        f"ratio {', '.join(f'{ratio:.2f}' for ratio in ratios)}, of {rounds} alternating rounds",
        flush=True,
    )
    return ratios[0]
