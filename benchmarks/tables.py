"""The tables of README files, generated from the CSV files: `python -m benchmarks.tables`."""

import re
from pathlib import Path

from benchmarks import storage
from benchmarks.comparisons import COMPARISONS

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "benchmarks" / "README.md", ROOT / "README.md")
# What of a CPU's instruction set decides which kernels are used
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "amx_tile": "AMX",
    "asimddp": "NEON dot products",
    "sve": "SVE",
}
SPREAD = 0.15  # above which a row says so

# The short table: (comparison, network, setting) and what is said of it
SHORT = (
    ("training", "SEResNet50", "batch 16, size 224", "training step, 16 images of 224x224"),
    ("inference", "SEResNet50", "batch 1, size 224", "inference, 1 image of 224x224"),
    ("inference", "SEResNet50", "batch 16, size 224", "inference, 16 images of 224x224"),
    ("exported", "SEResNet50", "batch 1, size 224", "exported file, 1 image of 224x224"),
    ("training", "SEMobileNet", "batch 16, size 224", "training step, 16 images of 224x224"),
    ("inference", "SEMobileNet", "batch 1, size 224", "inference, 1 image of 224x224"),
    ("exported", "SEMobileNet", "batch 1, size 224", "exported file, 1 image of 224x224"),
    ("training", "SEResNet20", "batch 128, size 32", "training step, 128 images of 32x32"),
    ("inference", "SEResNet20", "batch 1, size 32", "inference, 1 image of 32x32"),
    ("exported", "SEResNet20", "batch 1, size 32", "exported file, 1 image of 32x32"),
)


def markdown(name, folder=storage.FOLDER):
    """The table of a comparison, with what was measured where and when; "readme" is the short one.

    A ratio is the time (or memory) of the first subject over this one's, of networks with SE blocks
    and of plain ones, on the same machine: below 1 the first one is faster.
    """
    if name == "readme":
        return short(folder)
    comparison, rows = COMPARISONS[name], storage.read(name, folder)
    head = f"`python -m benchmarks {name}`: {comparison.measured}."
    if not rows:
        return f"{head} Not run yet."
    runs = list(dict.fromkeys(_run(row) for row in rows))
    bases = find_bases(rows)
    numbered = len(runs) > 1
    lines = [head, ""]
    columns = ["network", "setting", "subject", "ms", "least", "CPU ms", "MiB", "ratio"]
    lines += _table(
        [*columns, *["run"] * numbered],
        [
            _cells(row, ratio(row, bases, comparison.value))
            + [str(runs.index(_run(row)) + 1)] * numbered
            for row in rows
        ],
    )
    lines += ["", *(_explain(number, run) for number, run in enumerate(runs, 1))]
    if Path(folder, f"{name}.png").exists():
        lines += ["", f"![{comparison.measured}](results/{name}.png)"]
    return "\n".join(lines)


def _table(columns, rows):
    rule = "|".join("---" for _ in columns)
    return [f"| {' | '.join(columns)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def _case(row):
    """What is compared with each other."""
    return row["network"], row["setting"], row["cpu"], row["isa"], row["gpu"], row["plain"]


def find_bases(rows):
    """The first row of each case that could be measured or not."""
    bases = {}
    for row in rows:
        bases.setdefault(_case(row), row)
    return bases


def ratio(row, bases, value):
    """The first subject's value over this one's; None where either failed."""
    base = bases[_case(row)]
    if row["error"] or base["error"] or not row[value] or not base[value]:
        return None
    return float(base[value]) / float(row[value])


def _cells(row, found):
    what = [row["network"], row["setting"], row["subject"]]
    if row["error"]:
        return [*what, f"not measured: {row['error']}", "", "", "", ""]
    return [
        *what,
        format_ms(row["median_ms"]) + spread_note(row),
        format_ms(row["minimum_ms"]),
        format_ms(row["cpu_ms"]),
        row["peak_mib"],
        "" if found is None else f"{found:.2f}",
    ]


def spread_note(row):
    """What a row with much spread says of it."""
    wide = row["spread"] and float(row["spread"]) > SPREAD
    return f" (spread {float(row['spread']):.0%})" if wide else ""


def format_ms(text):
    """Three digits at least: 2,141 and 56.0 and 1.29."""
    if not text:
        return ""
    value = float(text)
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 10 else 2}f}"


def _run(row):
    """What rows of one command have in common; of the date the day."""
    where = ("cpu", "cores", "isa", "gpu", "onednn", "versions", "command", "threads", "rounds")
    return (row["date"][:10], *(row[key] for key in where if key != "onednn"))


def _explain(number, run):
    date, cpu, cores, isa, gpu, versions, command, threads, rounds = run
    known = [short for name, short in INSTRUCTIONS.items() if name in isa.split()]
    words = [date, gpu or cpu, *([] if gpu else [f"{cores} cores", *known])]
    words += [f"{threads} threads"] if threads else []
    words.append(f"{rounds} round{'' if rounds == '1' else 's'}")
    text = ", ".join(words)
    return f"{number}. {text}; {versions}; `{command}`"


def short(folder):
    """For each of `SHORT` our best row and the peer that is fastest beside it, with their ratio."""
    lines, places = [], set()
    for name, network, setting, what in SHORT:
        rows = [
            row
            for row in storage.read(name, folder)
            if row["network"].split(",")[0] == network
            if (row["setting"], row["error"]) == (setting, "")
        ]
        mine, peer = _closest(rows)
        if not mine:
            continue
        cells = [f"`{network}`{', plain' if mine['plain'] else ''}", what]
        cells += [f"{format_ms(mine['median_ms'])}{spread_note(mine)}", mine["subject"]]
        if peer:
            other = f"{format_ms(peer['median_ms'])}{spread_note(peer)}"
            cells += [other, peer["subject"], f"{_ms(mine) / _ms(peer):.2f}"]
        lines.append([*cells, *[""] * (7 - len(cells))])
        places.add(f"{mine['date'][:10]}, {mine['cpu']}, {mine['cores']} cores")
    if not lines:
        return "Not run yet."
    columns = ["network", "measured", "ms", "by", "ms", "by the fastest peer", "ratio"]
    return "\n".join(
        [*_table(columns, lines), "", f"{'; '.join(sorted(places))}; medians, float32."]
    )


def _closest(rows):
    """(our fastest row, the peer with the highest ratio of ours over it), within one case: the
    times of different runs say nothing of each other. None where there is none.
    """
    cases = {}
    for row in rows:
        own, peers = cases.setdefault(_case(row), ([], []))
        (own if "keras_senet" in row["subject"] else peers).append(row)
    fastest, pairs = [], []
    for own, peers in cases.values():
        if own:
            fastest.append(mine := min(own, key=_ms))
            pairs += [(mine, peer) for peer in peers]
    # one with SE blocks, if there is one
    pairs.sort(key=lambda pair: (pair[1]["plain"], -_ms(pair[0]) / _ms(pair[1])))
    return pairs[0] if pairs else (min(fastest, key=_ms, default=None), None)


def _ms(row):
    return float(row["median_ms"])


MARKED = re.compile(r"(<!-- benchmarks:([\w-]+) -->\n).*?(<!-- /benchmarks:\2 -->)", re.DOTALL)


def fill(text, folder=storage.FOLDER):
    """A text with the tables between their markers."""
    return MARKED.sub(lambda m: f"{m[1]}\n{markdown(m[2], folder)}\n\n{m[3]}", text)


def update(files=READMES, folder=storage.FOLDER):
    """Writes the tables into files."""
    for file in files:
        text = file.read_text(encoding="utf-8")
        if (filled := fill(text, folder)) != text:
            file.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    update()
