"""Training batches of images with boxes."""

import numpy as np
import pytest
import tensorflow as tf

from keras_senet.detection import BoxedImages, DetectionBatches
from keras_senet.detection.canvas import prepare
from keras_senet.detection.data.truths import make_truth
from keras_senet.preprocessing import IMAGENET, Preprocessing

PLAIN = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LANDSCAPE, PORTRAIT = (40, 60), (60, 40)


def boxed(index, size, crowd=False, empty=False):
    """A dark image with one bright rectangle, and its `Truth`."""
    image = np.zeros((*size, 3), "uint8")
    x, y = 4 + index % 10, 6 + index % 7
    image[y : y + 20, x : x + 12] = 200
    box = (x, y, x + 12, y + 20)
    rows = [] if empty else [(box, index % 3, 240.0, False)]
    return image, make_truth([*rows, ((0, 0, 30, 30), 0, 900.0, True)] if crowd else rows)


def dataset(sizes, **special):
    pairs = [boxed(i, size, **special.get(f"of{i}", {})) for i, size in enumerate(sizes)]
    images, truths = zip(*pairs, strict=True)
    count = range(1, len(sizes) + 1)
    return BoxedImages(images, sizes, truths, ("a", "b", "c"), [*count], (1, 2, 3))


def make(images, batch_size=2, **options):
    options = {"canvas": (80, 160), "preprocessing": PLAIN, "seed": 3} | options
    return DetectionBatches(images, batch_size=batch_size, **options)


@pytest.fixture(scope="module")
def mixed():
    """Seven landscape images and five portrait ones, one without boxes and one with a crowd."""
    return dataset(
        [LANDSCAPE] * 7 + [PORTRAIT] * 5, of1={"empty": True, "crowd": True}, of8={"crowd": True}
    )


def collect(batches, first, last, **options):
    return list(batches.batches(first, last, **options).as_numpy_iterator())


def assert_equal(a, b):
    for one, other in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
        np.testing.assert_array_equal(one, other)


def test_any_step_can_be_the_first(mixed):
    batches = make(mixed)
    steps = collect(batches, 0, 9)
    assert batches.steps_per_epoch == 5  # three of seven landscape images, and two of five others
    assert_equal(collect(make(mixed), 4, 9), steps[4:])
    assert any(
        not np.array_equal(one.images, other.images)
        for (one, _), (other, _) in zip(collect(make(mixed, seed=4), 0, 9), steps, strict=True)
        if one.images.shape == other.images.shape
    )


def test_a_batch_is_all_landscape_or_all_portrait(mixed):
    shapes = [canvas.images.shape[1:3] for canvas, _ in collect(make(mixed), 0, 10)]
    assert set(shapes) == {(96, 128), (128, 96)}
    alone = make(dataset([LANDSCAPE] * 4 + [PORTRAIT]))
    assert alone.steps_per_epoch == 3
    assert sorted(tuple(alone.indices(step)) for step in range(3))[-1] == (4, 4)
    together = make(mixed, group_by_aspect=False)
    assert {canvas.images.shape[1:3] for canvas, _ in collect(together, 0, 12)} >= {(128, 128)}


def test_each_epoch_has_each_image_once_in_another_order():
    batches = make(dataset([LANDSCAPE] * 8 + [PORTRAIT] * 4))
    epochs = [[batches.indices(6 * epoch + step) for step in range(6)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(12))
    assert len({tuple(np.concatenate(epoch)) for epoch in epochs}) == 3


def test_boxes_are_where_the_objects_are(mixed):
    """The rectangle that each image shows, found again in the canvas, is its box."""
    seen = set()
    batches = make(mixed)
    for step, (canvas, truths) in enumerate(collect(batches, 0, 20)):
        for row, index in enumerate(batches.indices(step)):
            image, (height, width) = canvas.images[row], canvas.sizes[row]
            assert not image[height:].any()
            assert not image[:, width:].any()
            if not len(mixed.truths[index].boxes[~mixed.truths[index].crowds]):
                assert truths.counts[row] == 0
                continue
            rows, columns = np.nonzero(image[..., 0] >= 100)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(truths.boxes[row, 0], found, atol=0.51)
            (x, *_), _ = mixed.truths[index].boxes[0], None
            seen.add((index, abs(found[0] - 2 * x) > 1))
            assert truths.classes[row, 0] == index % 3
            assert truths.counts[row] == 1  # without the crowd
    mirrored = np.mean([flipped for _, flipped in seen])
    assert 0.3 < mirrored < 0.7


def test_images_equal_those_that_detection_sees(mixed):
    batches = make(mixed, preprocessing=IMAGENET, flip=False, canvas=(70, 90))
    for step, (canvas, _) in enumerate(collect(batches, 0, 5)):
        images = [mixed.images[i] for i in batches.indices(step)]
        expected = prepare(images, IMAGENET, 70, 90)
        np.testing.assert_array_equal(canvas.sizes, expected.sizes)
        np.testing.assert_allclose(canvas.images, expected.images, atol=1e-5)


def test_parts_of_a_batch_are_those_of_the_whole(mixed):
    batches = make(mixed, batch_size=4)
    whole = collect(batches, 0, 3)
    parts = collect(batches, 0, 3, replicas=2)
    second = collect(batches, 0, 3, replicas=2, parts=range(1, 2))
    assert len(parts) == 6
    assert_equal(parts[1::2], second)
    for step, (canvas, truths) in enumerate(whole):
        own = parts[2 * step : 2 * step + 2]
        assert_equal(canvas.sizes, np.concatenate([c.sizes for c, _ in own]))
        assert_equal(
            truths, tf.nest.map_structure(lambda *x: np.concatenate(x), *[t for _, t in own])
        )


def test_the_shorter_side_is_drawn_for_each_batch(mixed):
    batches = make(mixed, short_sides=(64, 72, 96))
    shorts = [canvas.sizes.min(axis=1) for canvas, _ in collect(batches, 0, 15)]
    assert all(len(set(each)) == 1 for each in shorts)
    assert {each[0] for each in shorts} == {64, 72, 96}


def test_shapes_are_few_and_known(mixed):
    batches = make(mixed, multiple=64)
    canvas, truths = batches.batches(0, 1).element_spec
    assert canvas.images.shape.as_list() == [2, None, None, 3]
    assert canvas.sizes.shape == (2, 2)
    assert truths.boxes.shape == (2, 1, 4)
    assert truths.classes.shape == (2, 1)
    shapes = {canvas.images.shape[1:3] for canvas, _ in collect(batches, 0, 10)}
    assert shapes == {(128, 128)}
    first, second = truths._replace(
        boxes=np.zeros((2, 3, 4), "float32"), counts=np.int32([2, 0])
    ).valid
    assert first.numpy().tolist() == [True, True, False]
    assert not second.numpy().any()


@pytest.fixture
def files(tmp_path, mixed):
    """The same images as files, of which one is not there, one is no image, and one is smaller."""
    paths = [tmp_path / f"{i}.png" for i in range(len(mixed))]
    for path, image in zip(paths, mixed.images, strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    paths[2].unlink()
    paths[9].write_bytes(b"no image")
    paths[0].write_bytes(tf.io.encode_png(mixed.images[0][:35]).numpy())
    return BoxedImages(
        paths, mixed.sizes, mixed.truths, mixed.class_names, mixed.ids, mixed.categories
    )


def test_corrupt_images_are_named_and_replaced_by_others_of_their_group(files, mixed):
    batches = make(files)
    steps = range(batches.steps_per_epoch * 4)
    found = {each.index: str(each) for step in steps for each in batches.corrupt_at(step)}
    assert set(found) == {0, 2, 9}
    assert "0.png cannot be used: it has 60 x 35 pixels, and its boxes are for 60 x 40" in found[0]
    assert "2.png cannot be used: " in found[2]
    assert "No such file" in found[2]
    assert "9.png cannot be used: Not an image that can be decoded" in found[9]
    with pytest.raises(tf.errors.OpError):
        collect(batches, 0, 5)
    assert len(collect(batches, 0, 10, skip=set(found))) == 10
    for step in steps:
        before, after = batches.indices(step), batches.indices(step, set(found))
        assert not set(found) & set(after)
        assert len({mixed.sizes[i] for i in after}) == 1
        np.testing.assert_array_equal(
            after[~np.isin(before, [*found])], before[~np.isin(before, [*found])]
        )


def test_without_a_good_image_of_a_group_it_ends(mixed):
    batches, portraits = make(mixed), set(range(7, 12))
    step = next(step for step in range(5) if portraits & set(batches.indices(step)))
    with pytest.raises(ValueError, match="No image can replace image [0-9]+: all are corrupt"):
        batches.indices(step, portraits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 13}, "`batch_size` must be from 1 to the number of images, 12. Received: "),
        ({"batch_size": 0}, "`batch_size` must be from 1 to the number of images, 12. Received: "),
        ({"multiple": 48}, "`multiple` must be a multiple of 32. Received: multiple=48"),
        ({"canvas": (80, 40)}, "`canvas` must be "),
        ({"short_sides": (80, 400)}, "`short_sides` must be "),
    ],
)
def test_arguments_are_checked(mixed, options, message):
    with pytest.raises(ValueError, match=message):
        make(mixed, **options)


def test_replicas_must_divide_the_batch(mixed):
    with pytest.raises(ValueError, match="a multiple of the number of replicas, 3"):
        make(mixed).batches(0, 1, replicas=3)


def test_images_with_nothing_but_crowds_are_refused():
    images = dataset([LANDSCAPE] * 2, of0={"empty": True}, of1={"empty": True, "crowd": True})
    with pytest.raises(ValueError, match="There are no boxes but crowds in the 2 images"):
        make(images)
