"""`keras-senet summary`: one network, stage by stage."""

from keras_senet import models
from keras_senet.cli.network import load_network
from keras_senet.cli.options import SummaryOptions
from keras_senet.cli.tables import console, make_table, show, show_json
from keras_senet.complexity import complexity
from keras_senet.initializers import shapes_only
from keras_senet.preprocessing import sides


def run(options: SummaryOptions) -> None:
    """Prints the network's spec, and parameters and multiply-adds stage by stage."""
    source = options.source
    if source.kind == "constructor":
        constructor = models.get(source.text)
        size = constructor.input_size if options.size is None else options.size
        if size < constructor.min_size:
            raise ValueError(
                f"--size must be at least {constructor.min_size} for {source.text}. "
                f"Received: --size {size}"
            )
        with shapes_only():
            model = constructor(weights=None, input_shape=(size, size, 3))
    else:
        model = load_network(source).model
        size = model.preprocessing.size
    counts = complexity(model)
    if options.json:
        stages = [
            _figures(s) | {"output": s.output_shape, "stage": s.name} for s in counts.stages()
        ]
        show_json(_figures(counts) | {"model": source.text, "size": size, "stages": stages})
        return
    height, width = sides(size)
    title = f"{source.text} at {height} x {width}"
    table = make_table(title, "stage", "output", "parameters", "multiply-adds", "rescaled")
    for stage in counts.stages():
        shape = " x ".join(map(str, stage.output_shape))
        table.add_row(stage.name, shape, *(f"{n:,}" for n in _figures(stage).values()))
    table.add_section()
    table.add_row("total", "", *(f"{n:,}" for n in _figures(counts).values()))
    if hasattr(model, "spec"):
        console.print(model.spec)
    show(table)
    console.print(
        f"with batch-normalisation statistics {counts.parameters_with_statistics:,} parameters; "
        f"with one per rescaled element {counts.multiply_adds_with_rescaling:,} multiply-adds"
    )


def _figures(row):
    return {name: getattr(row, name) for name in ("parameters", "multiply_adds", "rescaled")}
