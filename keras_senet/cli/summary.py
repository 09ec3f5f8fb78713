"""`keras-senet summary`: one network, stage by stage."""

from keras_senet import models
from keras_senet.cli.options import SummaryOptions
from keras_senet.cli.tables import console, make_table, show, show_json
from keras_senet.complexity import complexity
from keras_senet.initializers import shapes_only


def run(options: SummaryOptions) -> None:
    """Prints the network's spec, and parameters and multiply-adds stage by stage."""
    constructor = models.get(options.model)
    size = constructor.input_size if options.size is None else options.size
    if size < constructor.min_size:
        raise ValueError(
            f"--size must be at least {constructor.min_size} for {options.model}. "
            f"Received: --size {size}"
        )
    with shapes_only():
        counts = complexity(constructor(weights=None, input_shape=(size, size, 3)))
    if options.json:
        stages = [
            _figures(s) | {"output": s.output_shape, "stage": s.name} for s in counts.stages()
        ]
        show_json(_figures(counts) | {"model": options.model, "size": size, "stages": stages})
        return
    title = f"{options.model} at {size} x {size}"
    table = make_table(title, "stage", "output", "parameters", "multiply-adds", "rescaled")
    for stage in counts.stages():
        shape = " x ".join(map(str, stage.output_shape))
        table.add_row(stage.name, shape, *(f"{n:,}" for n in _figures(stage).values()))
    table.add_section()
    table.add_row("total", "", *(f"{n:,}" for n in _figures(counts).values()))
    console.print(constructor.spec)
    show(table)
    console.print(
        f"with batch-normalisation statistics {counts.parameters_with_statistics:,} parameters; "
        f"with one per rescaled element {counts.multiply_adds_with_rescaling:,} multiply-adds"
    )


def _figures(row):
    return {name: getattr(row, name) for name in ("parameters", "multiply_adds", "rescaled")}
