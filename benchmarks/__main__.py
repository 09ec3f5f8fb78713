"""Runs comparisons: each in interleaved rounds, into `benchmarks/results/NAME.csv`, a picture and
the tables of the README files.
"""

import argparse
import os
import shlex
import sys
import tempfile
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import machine, storage, tables
from benchmarks.comparisons import COMPARISONS
from benchmarks.pictures import draw
from benchmarks.runner import Options, in_words, run_case
from keras_senet_cli import ends_with_output

# Variables that change what is measured
VARIABLES = (
    *("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "MALLOC_MMAP_THRESHOLD_"),
    *("MALLOC_TRIM_THRESHOLD_", "TF_NUM_INTRAOP_THREADS", "CUDA_VISIBLE_DEVICES"),
)
FILTERS = {"network": "SEResNet*", "setting": "batch 1,*", "subject": "keras_senet*"}


def parse(arguments):
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="comparisons; default: all")
    parser.add_argument("--list", action="store_true", help="the comparisons and their subjects")
    parser.add_argument("--rounds", type=int, help="default: what the comparison has")
    for name, example in FILTERS.items():
        parser.add_argument(
            f"--{name}", nargs="+", metavar="PATTERN", default=["*"], help=f"such as {example!r}"
        )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--before", metavar="FOLDER", help="a checkout to compare with, too")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and one round; keeps no results"
    )
    parser.add_argument("--output", metavar="FOLDER", help="default: benchmarks/results")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in COMPARISONS]
    if unknown:
        parser.error(f"NAME must be one of {', '.join(COMPARISONS)}. Received: {unknown[0]}")
    for name, least in (("rounds", 1), ("threads", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}. Received: {value}")
    if options.before and not Path(options.before, "keras_senet").is_dir():
        parser.error(f"--before must be a checkout of this package. Received: {options.before}")
    return options


def command_of(arguments):
    """The command that was given, with the variables that matter, without this machine's paths."""
    given = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return " ".join([*given, "python -m benchmarks", *map(shlex.quote, arguments)])


def select(comparison, options):
    """Its cases with the networks, subjects and settings that were asked for."""
    for case in comparison.cases():
        subjects = tuple(s for s in case.subjects if _fits(s.name, options.subject))
        settings = tuple(s for s in case.settings if _fits(in_words(s), options.setting))
        if _fits(case.network, options.network) and subjects and settings:
            yield replace(case, subjects=subjects, settings=settings)


def filters_of(options):
    """The filters that were given: "--network SEResNet51"."""
    given = {name: getattr(options, name) for name in FILTERS}
    return " ".join(f"--{name} {shlex.join(p)}" for name, p in given.items() if p != ["*"])


def _fits(text, patterns):
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def show_list(names):
    for name in names:
        comparison = COMPARISONS[name]
        print(f"{name}: {comparison.measured}")
        for case in comparison.cases():
            subjects = "; ".join(subject.name for subject in case.subjects)
            count = len(case.settings)
            print(f"    {case.network}, {count} setting{'s' * (count > 1)}: {subjects}")


def run(comparison, options, common):
    """Measures a comparison; after each case its rows are on the disk."""
    print(f"-- {comparison.name}: {comparison.measured}", flush=True)
    settings = {
        "rounds": 1 if options.quick else comparison.rounds,
        "seconds": 0 if options.quick else comparison.seconds,
        "warm_up": 1 if options.quick else comparison.warm_up,
    }
    if options.rounds:
        settings["rounds"] = options.rounds
    settings["at_once"] = comparison.at_once
    for case in select(comparison, options):
        made = Options(options.threads, options.before, options.quick, **settings)
        rows = []
        for row in run_case(case, made):
            rows.append(row | common)
            print("   ", describe(row), flush=True)
        storage.write(comparison.name, rows, options.output)


def describe(row):
    """A measured row as a line."""
    found = row.get("error") or (
        f"{row['median_ms']} ms, spread {row['spread']:.0%}, CPU {row['cpu_ms']} ms, "
        f"{row['peak_mib']} MiB, others {row['others']}"
    )
    return ", ".join(filter(None, (row["network"], row["setting"], row["subject"], found)))


def main(arguments):
    options = parse(arguments)
    names = options.names or list(COMPARISONS)
    if options.list:
        show_list(names)
        return
    if not any(case for name in names for case in select(COMPARISONS[name], options)):
        print(f"No case has {filters_of(options)}: see --list", file=sys.stderr)
        sys.exit(2)
    common = machine.describe() | {"command": command_of(arguments)}
    with tempfile.TemporaryDirectory() as folder:
        options.output = options.output or (folder if options.quick else storage.FOLDER)
        for name in names:
            run(COMPARISONS[name], options, common)
            draw(name, options.output)
            print(tables.markdown(name, options.output), flush=True)
        if Path(options.output) == storage.FOLDER:
            tables.update()


if __name__ == "__main__":
    with ends_with_output():
        main(sys.argv[1:])
