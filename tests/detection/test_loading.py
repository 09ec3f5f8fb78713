"""Datasets of images with boxes, by name."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_senet import detection
from keras_senet.detection.data import splits


def write_image(path, width=48, height=40, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 30)).save(path, **options)


def content_of(*files, ids=(7, 3)):
    """COCO's content with one box of 10 x 20 at 4, 6 in each file; categories with gaps."""
    return {
        "images": [{"id": 100 + i, "file_name": name} for i, name in enumerate(files)],
        "annotations": [
            {"id": i, "image_id": 100 + i, "category_id": ids[i % 2], "bbox": [4, 6, 10, 20]}
            for i in range(len(files))
        ],
        "categories": [{"id": number, "name": f"thing {number}"} for number in ids],
    }


LAYOUTS = {
    "coco": ("annotations/instances_{}2017.json", "{}2017/", {}),
    "images": ("annotations/instances_{}.json", "images/", {}),
    "images by split": ("annotations/instances_{}.json", "images/{}/", {}),
    "beside": ("{}.json", "images/", {}),
    "in annotations": ("annotations/{}.json", "{}/", {}),
    "by split": ("{}/_annotations.coco.json", "{}/", {"val": "valid"}),
    "validation": ("{}.json", "", {"val": "validation"}),
}


def write_folder(folder, layout, there=("train", "val")):
    file, images, names = LAYOUTS[layout]
    for split in there:
        name = names.get(split, split)
        write_image(folder / images.format(name) / f"{split}.png")
        path = folder / file.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content_of(f"{split}.png")))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_coco(tmp_path, layout):
    folder = write_folder(tmp_path / "things", layout)
    assert splits(folder) == ("train", "val")
    for split, name in {"train": "train", "validation": "val", "test": "val"}.items():
        read = detection.load_data(folder, split)
        assert str(read.images[0]).endswith(f"{name}.png")
        assert read.read(0).shape == (40, 48, 3)
        assert read.sizes == [(40, 48)]
        np.testing.assert_array_equal(read.truths[0].boxes, [[4, 6, 14, 26]])
        assert read.class_names == ("thing 7", "thing 3")
        assert read.categories == (7, 3)
        assert read.ids == [100]


def test_a_file_is_every_split(tmp_path):
    folder = write_folder(tmp_path, "beside")
    for split in ("train", "val", "test"):
        read = detection.load_data(folder / "train.json", split)
        assert str(read.images[0]).endswith("train.png")
    assert splits(folder / "train.json") == ()


def test_scenes_are_embedded():
    pytest.importorskip("sklearn")
    assert splits("scenes") == ("train", "test")
    assert len(detection.load_data("scenes", "test")) == 100


def test_sizes_and_boxes_are_those_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6  # stored lying on its side
    write_image(tmp_path / "a.jpg", width=48, height=40, exif=exif)
    content = content_of("a.jpg")
    content["annotations"][0]["bbox"] = [30, 30, 20, 30]
    (tmp_path / "train.json").write_text(json.dumps(content))
    read = detection.load_data(tmp_path, "train")
    assert read.sizes == [(48, 40)]
    assert read.read(0).shape == (48, 40, 3)
    np.testing.assert_array_equal(read.truths[0].boxes, [[30, 30, 40, 48]])


@pytest.mark.parametrize(("width", "is_upright"), [(40, True), (48, False), (None, True)])
def test_a_size_in_the_file_that_is_not_the_upright_one_is_counted(tmp_path, width, is_upright):
    """Boxes of a tool that ignores EXIF are for the image as it is stored."""
    exif = Image.Exif()
    exif[0x112] = 6
    write_image(tmp_path / "a.jpg", width=48, height=40, exif=exif)
    content = content_of("a.jpg")
    content["images"][0] |= {"width": width, "height": width and 88 - width}
    (tmp_path / "train.json").write_text(json.dumps(content))
    notes = " ".join(detection.load_data(tmp_path, "train").notes)
    assert ("another size than the file says" in notes) != is_upright


def test_sizes_after_long_headers_are_found(tmp_path):
    """A JPEG whose size comes after 100 kB of other segments."""
    write_image(tmp_path / "a.jpg", icc_profile=b"\0" * 100_000)
    (tmp_path / "train.json").write_text(json.dumps(content_of("a.jpg")))
    assert detection.load_data(tmp_path, "train").sizes == [(40, 48)]


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("scenes", "val", "`split` must be 'train' or 'test' for 'scenes'. Received: split='val'"),
        ("scenes", "dev", "`split` must be one of 'train', 'val', 'test'. Received: split='dev'"),
        ("no such", "train", "There is no dataset and no folder or file 'no such'. Datasets: "),
        ("{}/gone.json", "train", "There is no dataset and no folder or file '.*gone.json'"),
        ("{}/empty", "train", "'.*empty' has no file of COCO. Looked for .*annotations/instances_"),
        ("{}/half", "val", "must be 'train' for .*half'. .*val.* Looked for in .*SPLIT.json"),
        ("{}/twice", "train", "several files for 'train', '.*2014.json', '.*2017.json': name one"),
        ("coco/2017", "train", "There is no dataset 'coco/2017' in "),
    ],
)
def test_what_is_not_there_is_said(tmp_path, name, split, message):
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "half", "beside", ("train",))
    write_folder(tmp_path / "twice", "coco")
    shutil.copy(
        tmp_path / "twice/annotations/instances_train2017.json",
        tmp_path / "twice/annotations/instances_train2014.json",
    )
    with pytest.raises(ValueError, match=message) as caught:
        detection.load_data(name.format(tmp_path), split, tmp_path / "tfds")
    assert "\n" not in str(caught.value)


def small_png():
    file = io.BytesIO()
    Image.new("RGB", (40, 31)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c, f: c["annotations"][0].pop("category_id"), "COCO: there is no 'category_id'"),
        (lambda c, f: c["annotations"][0].update(category_id=None), "category None, which is not"),
        (lambda c, f: c["annotations"][0].update(category_id=[1]), "is not a JSON file of COCO"),
        (lambda c, f: c["categories"][0].pop("id"), "COCO: there is no 'id'"),
        (lambda c, f: c["categories"][1].update(id=7), "has two categories of the number 7"),
        (lambda c, f: c["categories"][1].update(name="thing 7"), "two categories of the name"),
        (lambda c, f: c["annotations"][0].update(area=float("nan")), "not a number, the area, in"),
        (lambda c, f: c["annotations"][0].update(area="big"), "not a number, the area, in image"),
        (lambda c, f: c["annotations"][0].update(bbox=[1, 2, None, 4]), "not four numbers"),
        (lambda c, f: c["annotations"][0].update(bbox=[1, 2, True, 4]), "not four numbers"),
        (lambda c, f: c["annotations"].clear(), "has no boxes in its 2 images"),
        (lambda c, f: (f / "b.png").unlink(), "cannot be read: '.*b.png' .No such file"),
        (lambda c, f: (f / "b.png").write_bytes(b"text"), "b.png' cannot be used: it is none of"),
        (lambda c, f: (f / "b.png").write_bytes(small_png()), "at least 32 .* 40 x 31 .*b.png"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, edit, message):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    content = content_of("a.png", "b.png")
    edit(content, tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        detection.load_data(tmp_path, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "3", "[]", "{}", '{"images": 3}', "[" * 10**5, '{"images": [3]}', "\0"]
)
def test_other_json_is_refused(tmp_path, content):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(ValueError, match="'.*train.json' is not a JSON file of COCO: ") as caught:
        detection.load_data(tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_small_images_are_not_detected_in(detector):
    with pytest.raises(ValueError, match="at least 32 pixels on each side. Received: 40 x 31"):
        next(detector.detect([np.zeros((31, 40, 3), "uint8")]))
