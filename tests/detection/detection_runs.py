"""A detection work directory and images with boxes, as training and `detect scenes` write them."""

import csv
import dataclasses
import json
import math

from PIL import Image

from keras_senet import detection

ROWS = [
    {
        **{"step": 4 * e, "epoch": e, "loss": 2.0 / e, "classifier_loss": 1.0 / e},
        **{"box_loss": 0.5, "objectness_loss": 0.3 / e, "proposal_loss": 0.2},
        **{"learning_rate": 0.01, "ap": 0.1 * e, "ap50": 0.2 * e, "ap75": 0.05},
        **{"ap_small": 0.1, "ap_medium": math.nan, "ap_large": 0.2},
    }
    for e in (1, 2, 3)
]


def write_images(folder, oracle, class_names="abcde"):
    """A folder of COCO with the oracle's two images, and objects where its detector finds some,
    but for one more; the numbers of categories have gaps.
    """
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(2):
        image = oracle[f"image{index}"]
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        height, width = image.shape[:2]
        images.append(
            {"id": 10 + index, "file_name": f"{index}.png", "height": height, "width": width}
        )
        rows = zip(oracle[f"detected_boxes{index}"], oracle[f"detected_labels{index}"], strict=True)
        found = [(box.tolist(), int(label) - 1) for box, label in rows][:4]
        for (x1, y1, x2, y2), label in [*found, ((0.0, 0.0, 30.0, 20.0), 0)]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + index,
                    "category_id": 3 * label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 3 * i + 1, "name": name} for i, name in enumerate(class_names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for split in ("train", "test"):
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def leave(folder, dataset, detector=None, rows=ROWS, **fields):
    """A work directory like that of training; without a detector the run has not ended."""
    folder.mkdir()
    recipe = detection.RECIPES["scenes"].override(dataset=str(dataset), epochs=3, **fields)
    content = {
        "recipe": dataclasses.asdict(recipe),
        "task": "detection",
        "engine": "trainer",
        "environment": {"threads": 2},
        "class_names": list("abcde"),
    }
    (folder / "recipe.json").write_text(json.dumps(content))
    if rows:
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if detector is not None:
        detection.save(detector, folder / "model.safetensors")
    return folder
