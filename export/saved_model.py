"""TensorFlow SavedModel."""

from .graph import write_saved_model
from .parity import FLOAT_TOLERANCE, export


def to_saved_model(model, path, *, images=None, preprocessing=None, overwrite=False):
    """Writes a SavedModel folder that runs without keras_senet and Keras, compared with the model.

    Its signature `serving_default` maps `images` (batch, H, W, C) float32 to `predictions`; the batch is dynamic.

    Args:
        model: a functional Keras model with one input and one output.
        path: the folder to write.
        images: (N, H, W, C) to compare on, as the exported model takes them; None makes seeded synthetic ones.
        preprocessing: a `Preprocessing` to put into the graph: the exported model then takes 0..255 RGB.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`.

    Raises:
        ParityError: if the outputs are not within 1e-4 of the largest one; nothing is left at `path`.
        ValueError, OSError: for a wrong argument, a path that exists or cannot be written.
    """

    def write(model, target):
        write_saved_model(model, preprocessing, target)

    return export(
        write,
        model,
        path,
        kind="savedmodel",
        quantization=None,
        images=images,
        preprocessing=preprocessing,
        overwrite=overwrite,
        tolerance=FLOAT_TOLERANCE,
    )
