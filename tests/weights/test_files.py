"""Saved weights carry their architecture, load what they saved, and are refused elsewhere."""

import functools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import keras_senet
from keras_senet.models.mobilenet import MobileNet
from keras_senet.models.resnet import ResNet, SmallResNet
from keras_senet.models.shake_shake import ShakeResNeXt
from keras_senet.models.units import Basic, Bottleneck, Stem
from keras_senet.models.vgg import dense_head
from keras_senet.runs.load import load_weights_file
from keras_senet.se import SE
from keras_senet.weights.metadata import choose_spec, describe

SPEC = SmallResNet((1, 1))


def constructor(spec=SPEC, **options):
    return keras_senet.application(spec, name="tiny", input_size=32, classes=10, **options)


@pytest.fixture
def saved(tmp_path):
    model = constructor()(weights=None)
    path = tmp_path / "tiny.weights.h5"
    keras_senet.save_weights(model, path)
    return model, path


def test_a_file_gives_back_the_network(saved):
    model, path = saved
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(constructor()(weights=path)(images), model(images))
    np.testing.assert_array_equal(constructor()(weights=str(path))(images), model(images))


def test_keras_reads_the_file_and_its_own_are_read(saved, tmp_path):
    model, path = saved
    other = constructor()(weights=None)
    other.load_weights(path)
    other.save_weights(tmp_path / "keras.weights.h5")
    loaded = constructor()(weights=tmp_path / "keras.weights.h5")
    for value, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_without_the_top(saved):
    model, path = saved
    bare = constructor()(weights=path, include_top=False)
    for value, expected in zip(bare.get_weights(), model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_without_the_head_of_another_network(tmp_path):
    head = functools.partial(dense_head, width=8)
    model = constructor(head=head)(weights=None)
    keras_senet.save_weights(model, tmp_path / "a.safetensors")
    bare = constructor(head=head)(weights=tmp_path / "a.safetensors", include_top=False)
    for value, expected in zip(bare.get_weights(), model.get_weights()[:-6], strict=True):
        np.testing.assert_array_equal(value, expected)


def write_last(path, array, name=None):
    """Another array in place of the one that is read last, or beside those that are there."""
    if path.name.endswith(".h5"):
        with h5py.File(path, "a") as file:
            name = f"layers/dense/vars/{1 if name is None else 9}"
            if name in file:
                del file[name]
            file[name] = array
        return
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    arrays = load_file(path) | {name or "predictions.bias": array}
    save_file(arrays, path, metadata=metadata)


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
@pytest.mark.parametrize(
    ("array", "name", "message"),
    [
        (np.full(10, np.nan, "float32"), None, "predictions/bias has values that are not finite"),
        (np.zeros(10, "int32"), None, "whole numbers|numbers of the type I32"),
        (np.zeros(9, "float32"), None, "do not fit 'tiny'"),
        (np.zeros(10, "float32"), "more.bias", "left over"),
    ],
)
def test_a_model_keeps_its_weights_if_a_file_is_refused(array, name, message, ending, tmp_path):
    model, other = constructor()(weights=None), constructor()(weights=None)
    path = tmp_path / f"tiny{ending}"
    keras_senet.save_weights(other, path)
    write_last(path, array, name)
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        keras_senet.load_weights(model, path)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_metadata(saved):
    _, path = saved
    with h5py.File(path) as file:
        metadata = json.loads(file.attrs["keras_senet"])
    assert metadata["spec"]["class"] == "SmallResNet"
    assert metadata["spec"]["se"]["reduction"] == 16
    assert metadata["preprocessing"]["size"] == 32


def test_another_architecture_of_equal_shapes_is_refused(tmp_path):
    """Without the metadata this would load, and answer differently."""
    spec = ResNet((1, 1))
    keras_senet.save_weights(constructor(spec)(weights=None), tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="stride_on: 1 in the file, 2 here"):
        constructor(ResNet((1, 1), Bottleneck(stride_on=2)))(weights=tmp_path / "a.weights.h5")


def test_other_classes_are_refused(saved):
    with pytest.raises(ValueError, match="the file has 10 classes"):
        constructor()(weights=saved[1], classes=7)


def test_a_file_of_a_deeper_network_without_metadata_is_refused(tmp_path):
    constructor(SmallResNet((2, 1)))(weights=None).save_weights(tmp_path / "deep.weights.h5")
    with pytest.raises(ValueError, match="the file has .* variables, the network"):
        constructor()(weights=tmp_path / "deep.weights.h5")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_file_is_named(saved, damage):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "text": b"<html>404</html>", "empty": b""}[
            damage
        ]
    )
    with pytest.raises(
        ValueError, match=r"damaged, or not a \.weights\.h5 file.*tiny\.weights\.h5"
    ):
        constructor()(weights=path)


def test_the_file_brings_its_preprocessing(saved, tmp_path):
    model = constructor()(weights=None)
    model.preprocessing = keras_senet.Preprocessing(
        (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 32, 0.9, "bicubic"
    )
    keras_senet.save_weights(model, tmp_path / "other.weights.h5")
    assert constructor()(weights=tmp_path / "other.weights.h5").preprocessing == model.preprocessing


@pytest.mark.parametrize(
    "metadata", ["[]", '{"spec": "x"}', '{"preprocessing": {}}', '{"preprocessing": 3}', "{"]
)
def test_damaged_metadata_is_named(saved, metadata):
    with h5py.File(saved[1], "a") as file:
        file.attrs["keras_senet"] = np.bytes_(metadata)
    with pytest.raises(ValueError, match="damaged"):
        constructor()(weights=saved[1])


def test_a_file_that_is_older_than_a_field_has_its_default(saved):
    with h5py.File(saved[1], "a") as file:
        metadata = json.loads(file.attrs["keras_senet"])
        for field in ("unit", "stem"):
            del metadata["spec"][field]
        del metadata["spec"]["se"]["stages"]
        file.attrs["keras_senet"] = np.bytes_(json.dumps(metadata))
    assert constructor()(weights=saved[1]).spec == SPEC


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 10**400},
        {"size": 2**40},
        {"crop_fraction": 1e-4},
        {"crop_fraction": 5e-324},
        {"mean": [1, 2]},
    ],
    ids=["digits", "size", "crop", "tiny", "mean"],
)
def test_metadata_is_not_believed_for_sizes(saved, fields):
    with h5py.File(saved[1], "a") as file:
        metadata = json.loads(file.attrs["keras_senet"])
        metadata["preprocessing"] |= fields
        file.attrs["keras_senet"] = np.bytes_(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"metadata is damaged|damaged, or not"):
        constructor()(weights=saved[1])


def test_bfloat16(tmp_path):
    import keras

    keras.config.set_dtype_policy("bfloat16")
    model = constructor()(weights=None)
    with pytest.raises(ValueError, match="cannot hold bfloat16: use `.safetensors`"):
        keras_senet.save_weights(model, tmp_path / "a.weights.h5")
    keras_senet.save_weights(model, tmp_path / "a.safetensors")
    keras.config.set_dtype_policy("float32")
    again = constructor()(weights=tmp_path / "a.safetensors")
    for value, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, np.asarray(expected, "float32"))


def test_an_interrupted_save_leaves_the_earlier_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(h5py, "File", full)
    with pytest.raises(OSError, match="no space"):
        keras_senet.save_weights(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_saved(saved, tmp_path):
    import keras

    with pytest.raises(ValueError, match="weights.h5"):
        keras_senet.save_weights(saved[0], tmp_path / "model.h5")
    with pytest.raises(FileNotFoundError, match=r"folder of .*a\.weights\.h5' does not exist"):
        keras_senet.save_weights(saved[0], tmp_path / "nowhere" / "a.weights.h5")
    foreign = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="must come from a constructor of keras_senet"):
        keras_senet.save_weights(foreign, tmp_path / "a.weights.h5")


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_weights_ask_for_their_activation(saved, activation):
    with pytest.raises(ValueError, match=f"classifier_activation='{activation}'"):
        constructor()(weights=saved[1], classifier_activation=activation)


def old(kind, **fields):
    """The metadata of a spec from when each had the fields of all units."""
    unused = {"groups": 1, "group_width": 64, "stride_on": 1, "reduce_by": 1, "projection": 1}
    stem = {"stem": [[7, 64, 2]], "stem_pool": "ceil", "shortcut_pool": False, "output_stride": 32}
    se = {"reduction": 16, "squeeze": "avg", "gate": "sigmoid", "use_bias": True}
    se |= {"position": "standard", "stages": None}
    return {"class": kind, "depths": [1, 1], **unused, **stem, "se": se, **fields}


SMALL_STEM = {"stem": [[3, 16, 1]], "stem_pool": None, "residual_relu": False}
DEEP = {"stem": [[3, 32, 2], [3, 64, 1]], "stem_pool": "padded", "shortcut_pool": True}
OLD = {
    "bottleneck": (old("ResNet"), ResNet((1, 1))),
    "without a field": (old("ResNet") | {"se": {}}, ResNet((1, 1))),
    "deep": (
        old("ResNet", **DEEP, groups=32, group_width=4, stride_on=2),
        ResNet(
            (1, 1),
            Bottleneck(32, 4, 2, projection="pool"),
            Stem(((3, 32, 2), (3, 64, 1)), "padded"),
        ),
    ),
    "senet": (
        old("ResNet", groups=64, group_width=4, stride_on=2, reduce_by=2, projection=3),
        ResNet((1, 1), Bottleneck(64, 4, 2, 2, 3)),
    ),
    "dilated": (old("ResNet", output_stride=8), ResNet((1, 1))),
    "basic": (old("BasicResNet", residual_relu=True), ResNet((1, 1), Basic(residual_relu=True))),
    "fields that it ignored": (
        old("BasicResNet", residual_relu=False, groups=32, reduce_by=2),
        ResNet((1, 1), Basic()),
    ),
    "small": (old("SmallResNet", **SMALL_STEM), SmallResNet((1, 1))),
    "shake": (
        old(
            "ShakeResNeXt", groups=4, stride_on=2, stem=[[3, 64, 1]], stem_pool=None, backward=True
        ),
        ShakeResNeXt((1, 1), backward=True),
    ),
    "of another family": (
        {"class": "MobileNet", "width": 0.25, "gate_first": False, "se": old("")["se"]},
        MobileNet(0.25),
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_metadata_of_earlier_versions(name):
    stored, spec = OLD[name]
    assert choose_spec({"spec": json.loads(json.dumps(stored))}, spec) == spec
    assert choose_spec({"spec": describe(spec)}, spec) == spec


@pytest.mark.parametrize(
    ("stored", "spec", "message"),
    [
        (old("ResNet", stride_on=2), ResNet((1, 1)), "unit.stride_on: 2 in the file, 1 here"),
        (old("ResNet", stem_pool="padded"), ResNet((1, 1)), "stem.pool: padded in the file, ceil"),
        (
            old("BasicResNet"),
            ResNet((1, 1)),
            "unit: {'class': 'Basic', .* in the file, {'class': 'B",
        ),
        (old("BasicResNet"), SmallResNet((1, 1)), "class: ResNet in the file, SmallResNet here"),
        (old("ResNet"), ResNet((1, 1), se=SE(gate="tanh")), "se.gate: sigmoid in the file, tanh"),
        (old("ResNet"), ResNet((1, 1), se=None), "se: {'class': 'SE', .* in the file, None here"),
        (old("ResNet", stem=3), ResNet((1, 1)), "stem.rows: 3 in the file"),
        (old("ResNet") | {"class": []}, ResNet((1, 1)), r"class: \[\] in the file"),
        (describe(ResNet((1, 1), Basic())), ResNet((1, 1)), "unit: {'class': 'Basic'"),
    ],
)
def test_metadata_of_earlier_versions_for_another_network(stored, spec, message):
    with pytest.raises(ValueError, match=f"another architecture .*{message}"):
        choose_spec({"spec": stored}, spec)


def test_a_file_of_an_earlier_version_loads(tmp_path):
    """Of `SmallResNet((1,))`, 6 classes, from before units were specs of their own."""
    file = Path(__file__).parent / "files" / "earlier.weights.h5"
    make = keras_senet.application(SmallResNet((1,)), name="tiny", input_size=32, classes=6)
    model = make(weights=file)
    expected = np.load(file.with_name("earlier.npy"))
    images = np.linspace(-1, 1, 2 * 32 * 32 * 3, dtype="float32").reshape(2, 32, 32, 3)
    np.testing.assert_allclose(model(images), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="another architecture"):
        make.variant(SmallResNet((1,), Basic(residual_relu=True)))(weights=file)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": "abc"}, "no tuple: abc"),
        ({"depths": [1, "x", 1]}, "no int: x"),
        ({"depths": [1, True, 1]}, "no int: True"),
        ({"depths": None}, "no tuple"),
        ({"depths": [10**9, 1, 1]}, "arrays for the blocks of"),
        ({"se": {"class": "SE", "use_bias": "yes"}}, "no bool: yes"),
        ({"unit": {"class": "Basic", "groups": {}}}, "no Unit"),
        ({"class": "Popen"}, "no Spec"),
    ],
)
def test_an_architecture_of_a_file_is_checked_before_it_is_built(fields, message, saved):
    with h5py.File(saved[1], "a") as file:
        metadata = json.loads(file.attrs["keras_senet"])
        metadata["spec"] |= fields
        file.attrs["keras_senet"] = np.bytes_(json.dumps(metadata))
    with pytest.raises(ValueError, match=message):
        load_weights_file(saved[1])
