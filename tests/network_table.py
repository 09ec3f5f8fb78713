"""The table of networks that the package has, `keras_senet/networks.csv`, made from what is built.

`python tests/network_table.py` writes it: after a network was added or changed.
"""

import dataclasses
from pathlib import Path

from keras_senet import models, networks
from keras_senet.complexity import complexity
from keras_senet.files import to_csv
from keras_senet.graphs import stages_of
from keras_senet.initializers import shapes_only

TABLE = Path(networks.__file__).with_name("networks.csv")
OF_THE_PAPER = [f for f in networks.NetworkRow._fields if f.startswith("paper")]  # typed by hand


def count(constructor, se):
    """The `Complexity` of a network of its own size with these SE blocks; its weights get no
    values.
    """
    with shapes_only():
        spec = dataclasses.replace(constructor.spec, se=se)
        return complexity(constructor.variant(spec)(weights=None))


def row(name, counts, plain):
    """A network's row of the table, by the counts with and without SE blocks."""
    constructor, paper = getattr(models, name), networks.read_table().get(name)
    with shapes_only():
        stages = stages_of(constructor(weights=None))
    return networks.NetworkRow(
        name,
        constructor.input_size,
        constructor.classes,
        len(getattr(constructor.spec, "depths", ())),
        tuple(sorted({stage for stage in stages.values() if stage is not None})),
        counts.parameters,
        counts.multiply_adds,
        counts.multiply_adds_with_rescaling,
        plain.multiply_adds,
        plain.parameters,
        *(paper[-len(OF_THE_PAPER) :] if paper else [None] * len(OF_THE_PAPER)),
    )


if __name__ == "__main__":
    constructors = {name: getattr(models, name) for name in models.__all__}
    rows = [row(n, count(c, c.spec.se), count(c, None)) for n, c in constructors.items()]
    columns = networks.NetworkRow._fields
    written = [
        each._asdict() | {"stage_numbers": " ".join(map(str, each.stage_numbers))} for each in rows
    ]
    TABLE.write_text(to_csv(written, columns).replace("\r\n", "\n"))
