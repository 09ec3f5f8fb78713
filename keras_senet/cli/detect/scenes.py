"""`keras-senet detect scenes`: the embedded images with boxes, in the format of COCO."""

from pathlib import Path

from keras_senet.cli.options.detection import ScenesOptions
from keras_senet.cli.tables import say, shell_command, status
from keras_senet.detection.data.scenes import COUNTS, write_scenes
from keras_senet.files import check_folder
from keras_senet_cli import quiet


def run(options: ScenesOptions) -> None:
    """Writes `train.json`, `test.json` and `images/`, and says what to do with them."""
    folder = Path(options.folder)
    check_folder(folder, "FOLDER")
    written = [folder / f"{split}.json" for split in COUNTS]
    if (there := [path.name for path in written if path.exists()]) and not options.overwrite:
        raise ValueError(
            f"FOLDER has {', '.join(there)}: {options.folder!r}. Pass --overwrite to replace them"
        )
    with status(f"drawing {sum(COUNTS.values()):,} images"), quiet():
        write_scenes(folder)
    counts = ", ".join(f"{split}.json with {count:,} images" for split, count in COUNTS.items())
    say(f"{folder}/: {counts}, in images/")
    say(f"next: {shell_command('detect', 'train', '--dataset', folder, '--workdir', 'run')}")
