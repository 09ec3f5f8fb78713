"""Images with boxes that tensorflow_datasets wrote: with its own builders' features and writer."""

import io
import json
import shutil

import little_scenes
import numpy as np
import pytest
from data import files
from PIL import Image

import keras_senet_cli
from keras_senet import detection
from keras_senet.data.examples import read_features
from keras_senet.detection.data import splits
from keras_senet.detection.evaluation import compute
from keras_senet.preprocessing import IMAGENET

tfds = pytest.importorskip("tensorflow_datasets")
from tensorflow_datasets.object_detection import coco, voc  # noqa: E402

SIZE = (64, 100)  # height, width


def jpeg(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(noise).resize(SIZE[::-1]).save(file, "JPEG")
    file.seek(0)
    return file


def box_of(x1, y1, x2, y2):
    height, width = SIZE
    return tfds.features.BBox(y1 / height, x1 / width, y2 / height, x2 / width)


def coco_example(number, objects):
    return {
        "image": jpeg(number),
        "image/filename": f"{number:012}.jpg",
        "image/id": number,
        "objects": [
            {"id": 1 + i, "area": area, "bbox": box_of(*box), "label": label, "is_crowd": crowd}
            for i, (box, label, area, crowd) in enumerate(objects)
        ],
    }


def voc_example(number, objects):
    return {
        "image": jpeg(number),
        "image/filename": f"{number:06}.jpg",
        "objects": [
            {"label": label, "bbox": box_of(*box), "pose": 0, "is_truncated": False}
            | {"is_difficult": is_difficult}
            for box, label, is_difficult in objects
        ],
        "labels": sorted({label for _, label, _ in objects}),
        "labels_no_difficult": [],
    }


COCO_EXAMPLES = {
    "train": [
        coco_example(9, [((10.5, 20.25, 30, 60), 11, 300, False), ((0, 0, 50, 50), 79, 99, True)]),
        coco_example(139, []),
        coco_example(25, [((5, 5, 25, 35), i % 80, 600, False) for i in range(100)]),
    ],
    "validation": [coco_example(7, [((1, 2, 30, 40), 0, 1102, False)])],
    "test": [coco_example(1000 + i, []) for i in range(3)],
}
VOC_EXAMPLES = {
    "train": [voc_example(12, [((1, 1, 100, 64), 6, False)])],
    "validation": [voc_example(17, [((11, 21, 30, 50), 3, False), ((51, 11, 90, 60), 3, True)])],
    "test": [voc_example(1, [((5, 6, 40, 50), 0, False)])],
}


def prepare(builder_class, config, examples, data_dir):
    """The dataset of a builder of tensorflow_datasets, with other images."""

    class Small(builder_class, skip_registration=True):
        name = builder_class.name
        pkg_dir_path = None

        def _split_generators(self, dl_manager):
            return {split: enumerate(rows) for split, rows in examples.items()}

    if builder_class is coco.Coco:
        original = Small._info

        def _info(self):
            found = original(self)
            names = [name for name in detection.torchvision.COCO if name]
            found.features["objects"]["label"].names = names
            return found

        Small._info = _info
    small = Small(data_dir=data_dir, config=config)
    small.download_and_prepare(file_format="tfrecord")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(coco.Coco, "2017", COCO_EXAMPLES, folder)
    prepare(voc.Voc, "2007", VOC_EXAMPLES, folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def test_coco(data_dir):
    assert splits("coco/2017", data_dir) == ("train", "val")  # its test images have no boxes
    read = detection.load_data("coco/2017", "train", data_dir)
    by_id = dict(zip(read.ids, read.truths, strict=True))
    assert set(by_id) == {9, 139, 25}
    np.testing.assert_allclose(by_id[9].boxes, [[10.5, 20.25, 30, 60], [0, 0, 50, 50]], atol=1e-5)
    assert by_id[9].crowds.tolist() == [False, True]
    assert by_id[9].areas.tolist() == [300, 99]
    assert len(by_id[139].boxes) == 0
    assert len(by_id[25].boxes) == 100
    assert read.notes == ["images without boxes: 1"]
    named = [(read.class_names[c], read.categories[c]) for c in by_id[9].classes]
    assert named == [("stop sign", 13), ("toothbrush", 90)]  # instances_train2017.json's numbers
    assert read.sizes == [SIZE] * 3
    where = read.ids.index(139)
    assert read.name_of(where) == "000000000139.jpg"
    decoded = np.asarray(Image.open(jpeg(139)))
    assert np.abs(np.int32(read.read(where)) - decoded).max() <= 2
    assert detection.load_data("coco/2017", "test", data_dir).ids == [7]


def test_boxes_of_voc_are_corners_of_pixels(data_dir):
    """VOC counts from 1: 1, 1, width, height is the whole image."""
    read = detection.load_data("voc/2007", "train", data_dir)
    np.testing.assert_allclose(read.truths[0].boxes, [[0, 0, 100, 64]], atol=1e-5)
    assert read.class_names[read.truths[0].classes[0]] == "car"
    assert read.categories == tuple(range(1, 21))
    assert read.ids == [1]
    both = detection.load_data("voc/2007", "train+val", data_dir)
    assert both.names == ["000012.jpg", "000017.jpg"]
    np.testing.assert_array_equal(both.read(1).shape, (*SIZE, 3))


def test_difficult_objects_do_not_count(data_dir):
    """By VOC's rule: neither missed nor wrong, but a second detection of one is wrong."""
    read = detection.load_data("voc/2007", "val", data_dir)
    assert read.truths[0].crowds.tolist() == [False, True]
    batches = detection.DetectionBatches(
        read, batch_size=1, canvas=(64, 128), preprocessing=IMAGENET, seed=0
    )
    ((_, truths),) = batches.batches(0, 1)
    assert truths.counts.numpy().tolist() == [1]
    easy, difficult = ([float(x) for x in box] for box in read.truths[0].boxes)

    def precision(*boxes):
        rows = [
            {"image_id": 1, "category_id": 4, "bbox": [x, y, x2 - x, y2 - y], "score": 0.9 - i / 9}
            for i, (x, y, x2, y2) in enumerate(boxes)
        ]
        return compute(read.to_coco(), rows).figures["AP50"]

    assert precision(easy) == precision(difficult, easy) == pytest.approx(1)
    assert precision(difficult, difficult, easy) == pytest.approx(0.5)
    inner = [60.0, 20.0, 70.0, 30.0]  # would be ignored in a crowd
    assert precision(inner, easy) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("voc/2012", "train", "There is no dataset 'voc/2012' in .* Prepare it there with"),
        ("voc/2007", "dev", "`split` must be one of 'train', 'val', 'test'"),
        ("pictures", "train", "is not one of images with boxes; its features: "),
    ],
)
def test_what_is_not_there_is_said(data_dir, name, split, message):
    if name == "pictures" and not (data_dir / "pictures").exists():
        files.prepare(data_dir, {"train": [[files.example(jpeg(0).read(), 1)]]})
    with pytest.raises(ValueError, match=message):
        detection.load_data(name, split, data_dir)


def test_damaged_records_are_named(data_dir, tmp_path):
    shutil.copytree(data_dir / "voc", tmp_path / "voc")
    (file,) = (tmp_path / "voc/2007/5.0.0").glob("*train*")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="train.*is damaged"):
        detection.load_data("voc/2007", "train", tmp_path)


def test_only_the_beginning_of_images_is_read(data_dir):
    """Reading the boxes of a record with a large image costs a page or two."""
    read = detection.load_data("coco/2017", "val", data_dir)
    (record,) = read.images.records.read(np.array([0]))
    counts = []

    def take(count, at):
        counts.append(count)
        return record[at : at + count]

    found = read_features(take, 0, len(record), {"image": 100})
    whole = read_features(take, 0, len(record), {})
    assert found["image"][0] == whole["image"][0][:100]
    assert {**found, "image": 0} == {**whole, "image": 0}
    assert json.dumps(found["objects/label"]) == "[0]"


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [
        ("coco-1x", 2),
        pytest.param("coco-2x", 2, marks=pytest.mark.slow),  # which is only longer
        ("coco-3x", 2),
        ("voc2007", 1),
    ],
)
def test_a_recipe_starts_on_its_dataset(data_dir, tmp_path, monkeypatch, name, batch_size):
    """One step; what else a recipe says stays as it is."""
    recipe = little_scenes.start_recipe(
        lambda *arguments: keras_senet_cli.main([*map(str, arguments)]),
        monkeypatch,
        name,
        tmp_path / "run",
        *("--data-dir", data_dir, "--batch-size", batch_size),
        *(["--short-sides", 64, 80] if name == "coco-3x" else []),
    )
    expected = detection.RECIPES[name]
    assert recipe["dataset"] == expected.dataset
    assert tuple(recipe["milestones"]) == expected.milestones
    assert recipe["source"] == expected.source
    assert expected.result == "not run"
    assert [path.name for path in (tmp_path / "run").glob("*.safetensors")] == ["model.safetensors"]
