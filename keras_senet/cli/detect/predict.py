"""`keras-senet detect predict`: the objects in images."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from keras_senet.cli.detect import load_detector
from keras_senet.cli.evaluate import output_folder
from keras_senet.cli.image_rows import check_csv, report
from keras_senet.cli.options.detection import DetectPredictOptions
from keras_senet.cli.tables import collect, console, make_table, show
from keras_senet.files import printable
from keras_senet.images.walk import describe_left_out, list_images

COLUMNS = ("image", "class", "score", "x1", "y1", "x2", "y2", "error")
CORNERS = ("x1", "y1", "x2", "y2")
SCORE = 0.5  # the least that is shown without --score; a detector may have a higher one


class FoundObject(NamedTuple):
    """A detection: its class, probability, and corners in pixels of the image."""

    name: str
    score: float
    box: tuple[float, ...]


class FoundRow(NamedTuple):
    """An image with its detections, or why there are none."""

    image: str
    found: list[FoundObject]
    error: str = ""


def run(options: DetectPredictOptions) -> None:
    """Prints the detections of each image, and draws them if asked."""
    images = list_images(options.images)
    check_csv(options.csv)
    output = output_folder(options.output, "train")
    if images.left_out:
        console.print(describe_left_out(images.left_out))
    detector, least = load_detector(options.source), SCORE
    if options.score is not None:
        detector, least = _find_from(options.score, detector), options.score
    pictures = dict(zip(images.images, name_pictures(images.images), strict=True))
    steps = _detect(detector, images.images, least, output, pictures)
    rows = collect(steps, len(images.images) > 1, len(images.images))
    if output is not None:
        drawn = len({row.image for row in rows if not row.error})
        console.print(f"{output}/: {drawn:,} picture{'s' if drawn != 1 else ''}")
    report(options, rows, COLUMNS, to_lines=_to_lines, to_json=_to_json, show=_print)


def _find_from(least: float, detector: Any) -> Any:
    """The detector, or one that finds all with at least this score.

    Raises:
        ValueError: for an exported file that leaves some of them out.
    """
    from keras_senet.detection import Detector

    if not isinstance(detector, Detector):
        if least < detector.score:
            raise ValueError(
                f"--score must be at least {detector.score:g}, the least that the exported file "
                f"finds. Received: --score {least:g}"
            )
        return detector
    return detector if least >= detector.spec.score else detector.with_score(least)


def _detect(detector, files, least, output, pictures) -> Iterator[FoundRow]:
    """A row for each file, whose picture is drawn if there is a folder for it."""
    import tensorflow as tf

    from keras_senet.files import read_bytes
    from keras_senet.images.decoding import decode, describe_error

    for file in files:
        name = printable(file)
        try:
            image = decode(read_bytes(file), 3).numpy()
            (found,) = detector.detect([image])
        except (ValueError, OSError, tf.errors.InvalidArgumentError) as error:
            yield FoundRow(name, [], " ".join(describe_error(error).split()))
            continue
        chosen = found.scores >= least
        columns = zip(found.names, found.scores.tolist(), found.boxes.tolist(), strict=True)
        rows = [FoundObject(n, s, tuple(b)) for n, s, b in columns if s >= least]
        if output is not None:
            _draw(image, rows, found.classes[chosen].tolist(), output / pictures[file])
        yield FoundRow(name, rows)


def _draw(image: Any, found: list[FoundObject], classes: list[int], path: Path) -> None:
    """Writes the picture of an image with its detections; a class has the same colour in all."""
    from keras_senet.plots.boxes import LabelledBox, boxes_on_image

    boxes = [
        LabelledBox(each.box, f"{each.name} {each.score:.2f}", label)
        for each, label in zip(found, classes, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    boxes_on_image(image, boxes, path)


def name_pictures(files: list[str]) -> list[str]:
    """The name of each file's picture, below their common folder; with the file's ending where
    that tells it apart.
    """
    places = [Path(os.path.abspath(printable(file))) for file in files]
    common = os.path.commonpath([place.parent for place in places])
    names = [place.relative_to(common) for place in places]
    short = [str(name.with_suffix(".png")) for name in names]
    counts = Counter(short)
    long = [f"{name}.png" for name in names]
    found = [s if counts[s] == 1 else n for s, n in zip(short, long, strict=True)]
    return found if len(set(found)) == len(found) else long


def _to_lines(row):
    if not row.found:
        yield {"image": row.image}
    for each in row.found:
        corners = {name: f"{value:.2f}" for name, value in zip(CORNERS, each.box, strict=True)}
        yield {"image": row.image, "class": each.name, "score": f"{each.score:.6g}"} | corners


def _to_json(row):
    found = [{"class": each.name, "score": each.score, "box": each.box} for each in row.found]
    return {"image": row.image, "detections": found}


def _print(rows):
    table = make_table("Detections", "image", "class", "score", *CORNERS)
    table.columns[1].justify = "left"
    for row in rows:
        if row.error:
            table.add_row(row.image, f"cannot be used: {row.error}")
        elif not row.found:
            table.add_row(row.image, "nothing")
        for rank, each in enumerate(row.found):
            corners = (f"{value:.1f}" for value in each.box)
            table.add_row("" if rank else row.image, each.name, f"{each.score:.3f}", *corners)
    show(table)
