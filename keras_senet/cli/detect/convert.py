"""`keras-senet detect convert`: torchvision's detector as a file of this package."""

from pathlib import Path

from keras_senet import detection
from keras_senet.cli.detect import load_detector
from keras_senet.cli.options.detection import DetectConvertOptions
from keras_senet.cli.options.sources import find_detector
from keras_senet.cli.tables import say, shell_command
from keras_senet.files import check_folder
from keras_senet.weights.metadata import check_ending


def run(options: DetectConvertOptions) -> None:
    """Reads the weights and writes them as `.safetensors`, with what detection needs."""
    source, output = find_detector("SOURCE", options.source), Path(options.output)
    check_ending(output, (detection.files.ENDING,), "output")
    check_folder(output.parent, "The folder of `output`")
    if output.exists() and not options.overwrite:
        raise ValueError(f"--output exists: {options.output!r}. Pass --overwrite to replace it")
    detector = load_detector(source)
    detection.save(detector, output)
    named = sum(map(bool, detector.class_names))
    count = sum(variable.numpy().size for variable in detector.variables)
    say(f"{output}: {count:,} weights, {named} classes")
    say(f"next: {shell_command('detect', 'predict', 'IMAGE.jpg', '--model', output)}")
