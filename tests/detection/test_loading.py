"""Datasets of images with boxes, by name."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_senet import detection
from keras_senet.detection.data import splits
from keras_senet.detection.evaluation import compute


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


def test_sizes_that_are_no_numbers_are_not_compared(tmp_path):
    write_image(tmp_path / "a.png")
    content = content_of("a.png")
    content["images"][0] |= {"width": "48", "height": "40"}
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert detection.load_data(tmp_path, "train").notes == []


def test_a_box_at_coco_s_limit_of_small_is_small_wherever_it_is(tmp_path):
    """(0.1 + 32) - 0.1 is above 32."""
    write_image(tmp_path / "a.png")
    content = content_of("a.png")
    content["annotations"][0]["bbox"] = [0.1, 0.1, 32, 32]
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert detection.load_data(tmp_path, "train").truths[0].areas.tolist() == [1024]


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


def number(content, category):
    """Categories from 1, and a box of `True`, which equals it."""
    content["categories"][0]["id"] = category
    content["annotations"][0]["category_id"] = True


def outside(content):
    """Boxes of negative sizes, and outside of their image."""
    content["annotations"][0]["bbox"] = [20, 20, -5, -5]
    content["annotations"][1]["bbox"] = [100, 100, 5, 5]


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
        (
            lambda c, f: c["annotations"][0].update(bbox="4,6,10,20"),
            "not four numbers.*: '4,6",
        ),
        (lambda c, f: c["annotations"][0].update(bbox=["4", "6", "9", "9"]), "not four numbers"),
        (lambda c, f: c["annotations"][0].update(bbox=[1, 2, 10**400, 4]), "not four numbers"),
        (
            lambda c, f: c["annotations"][0].update(area=-1),
            "not a number, the area, .*: -1",
        ),
        (lambda c, f: c["annotations"][0].update(area=10**400), "not a number, the area, in image"),
        (lambda c, f: c["annotations"][0].update(area=1e12), "not a number, the area, in image"),
        (lambda c, f: c["annotations"][0].update(area=None), "not a number, the area, .*: None"),
        (lambda c, f: c["annotations"][0].update(iscrowd="0"), "not 0 or 1, 'iscrowd', in image"),
        (
            lambda c, f: c["annotations"][0].update(image_id="100"),
            "of image '100', which is not",
        ),
        (
            lambda c, f: c["annotations"][0].update(image_id=5),
            "box of image 5, which is not",
        ),
        (lambda c, f: number(c, 1), "box of category True, which is not listed"),
        (lambda c, f: c["images"][0].update(id=None), "the 'id' of an entry of 'images' is not a"),
        (lambda c, f: c["images"][0].update(id=True), "'id' of an entry of 'images' .*: True"),
        (lambda c, f: c["images"][0].update(id="100"), "not a text, as the first is: 101"),
        (lambda c, f: c["images"][1].update(id=100), "has two images of the number 100"),
        (lambda c, f: c["images"][1].update(file_name=3), "'file_name' of image 101 is none: 3"),
        (lambda c, f: c["images"][1].update(file_name=""), "'file_name' of image 101 is none"),
        (lambda c, f: c["images"][1].update(file_name="\0"), "'file_name' of image 101 is none"),
        (
            lambda c, f: c["images"][1].update(file_name="\ud800"),
            "'file_name' of image 101 is none",
        ),
        (lambda c, f: c["images"][0].update(file_name="a" * 5000), "aaa' of .* is in none of "),
        (lambda c, f: c["images"][1].update(file_name="../b.png"), "cannot be read: '.*b.png' .No"),
        (
            lambda c, f: c["images"][1].update(file_name="."),
            "cannot be read: .* is a folder",
        ),
        (
            lambda c, f: c["images"][1].update(file_name="/etc/passwd"),
            "passwd' cannot be used: ",
        ),
        (lambda c, f: c["categories"][0].update(name=""), "'name' of category 7 is not a text"),
        (lambda c, f: c["categories"][0].update(name=None), "'name' of category 7 is not a text"),
        (
            lambda c, f: c["categories"][0].update(name="\udcff"),
            "'name' of category 7 is not a text",
        ),
        (lambda c, f: c["categories"].clear(), "has no categories"),
        (
            lambda c, f: c.update(categories={"7": "a"}),
            "COCO: 'categories' is not a list of",
        ),
        (lambda c, f: c.update(annotations=None), "COCO: 'annotations' is not a list of"),
        (lambda c, f: c["annotations"].append("x"), "COCO: 'annotations' is not a list of"),
        (lambda c, f: c["annotations"].clear(), "has no boxes in its 2 images$"),
        (lambda c, f: outside(c), "no boxes in its 2 images, but 2 without an area in their image"),
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


def test_what_is_unusual_is_taken(tmp_path):
    """Numbers above 32 bits and as text, names in other scripts, places elsewhere; grey and 16-bit
    images, and such with alpha; the same number of two boxes, and boxes without `area`.
    """
    folder = tmp_path / "data"
    names = ["żółw 龟.png", "../b.png", str(tmp_path / "c.png"), "d.png", "e.png"]
    for name, mode in zip(names, ("RGB", "L", "RGBA", "I;16", "LA"), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        value = 40_000 if mode == "I;16" else (90,) * len(mode)
        Image.new(mode, (48, 40), value).save(folder / name)
    content = content_of(*names, ids=(2**40, 3))
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        image["id"] = annotation["image_id"] = str(2**35 + image["id"])
        annotation |= {"id": 1, "iscrowd": None, "segmentation": None}
    content["annotations"][1]["bbox"] = [40, 30, 100, 100]  # cut to 8 x 10
    (folder / "train.json").write_text(json.dumps(content))
    read = detection.load_data(folder, "train")
    assert read.ids[0] == str(2**35 + 100)
    assert read.categories == (2**40, 3)
    assert read.class_names == (f"thing {2**40}", "thing 3")
    assert [truth.areas.tolist() for truth in read.truths] == [[200], [80], [200], [200], [200]]
    expected = [90, 90, 90, 40_000 // 256, 90]
    for index, value in enumerate(expected):
        image = read.read(index)
        assert image.shape == (40, 48, 3)
        assert np.unique(image).tolist() == [value]
    rows = [
        {"image_id": number, "category_id": read.categories[truth.classes[0]], "score": 0.5}
        | {"bbox": (truth.boxes[0] - np.float32([0, 0, *truth.boxes[0][:2]])).tolist()}
        for number, truth in zip(read.ids, read.truths, strict=True)
    ]
    assert compute(read.to_coco(), rows).figures["AP"] == pytest.approx(1)


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
