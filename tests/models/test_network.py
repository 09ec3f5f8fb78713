"""The class of the networks: what is in their files, and that they are Keras models like others."""

import copy
import dataclasses
import json
import pickle
import zipfile
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from tiny import TINY, randomize

import keras_senet
from keras_senet import models
from keras_senet.bases import find_bases
from keras_senet.copying import rebuild
from keras_senet.initializers import shapes_only
from keras_senet.models.blocks import Spec, conv_bn_relu, read_spec
from keras_senet.models.mobilenet import MobileNet
from keras_senet.models.resnet import SmallResNet
from keras_senet.models.shufflenet import ShuffleNet
from keras_senet.preprocessing import Preprocessing
from keras_senet.runs.load import load_model_file
from keras_senet.weights.metadata import describe

NAMES = ("kitten", "日本", 'a "quoted" [name]', *"defghij")
PREPARED = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 24, 0.9, "bicubic", upright=False)


def network(**options):
    model = TINY["small"].constructor(weights=None, **options)
    model.preprocessing = PREPARED
    model.class_names = NAMES
    return randomize(model)


def images(size=32):
    return np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")


def assert_same(loaded, model):
    assert type(loaded) is models.Network
    assert loaded.preprocessing == PREPARED
    assert loaded.class_names == NAMES
    assert type(loaded.class_names) is tuple
    assert loaded.spec == model.spec
    np.testing.assert_array_equal(loaded(images()), model(images()))


@pytest.mark.parametrize("name", models.__all__)
def test_the_spec_of_every_network_is_read_again(name):
    spec = models.get(name).spec
    assert repr(read_spec(describe(spec))) == repr(spec)
    assert models.find(spec).spec == spec


# In place of those with fewer blocks, which are tests' own
OF_PACKAGE = {"mobilenet": MobileNet(width=0.25), "shufflenet": ShuffleNet(width=0.5)}


@pytest.mark.parametrize("name", TINY)
def test_the_spec_of_every_family_is_read_again(name):
    spec = OF_PACKAGE.get(name, TINY[name].spec)
    assert repr(read_spec(describe(spec))) == repr(spec)
    variant = models.find(spec)
    assert variant.spec == spec
    assert variant.head == models.find(spec).base.head


def test_specs_that_are_none():
    for stored in (None, [], "ResNet", {"class": "Nothing"}, {"class": "SE"}, {"class": "ResNet"}):
        with pytest.raises(ValueError, match=r"no |architecture"):
            read_spec(stored)


def test_a_file_of_keras_has_what_prediction_needs(tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    assert_same(keras.models.load_model(tmp_path / "model.keras"), model)


def test_after_training_and_as_h5(tmp_path):
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    model.fit(images(), np.array([0, 1]), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded, model)
    model.save(tmp_path / "model.h5")  # Keras 2's format: by the name of its class a plain model
    plain = keras.models.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(plain(images()), model(images()))
    loaded.fit(images(), np.array([0, 1]), verbose=0)


def test_copies():
    model = network()
    assert_same(pickle.loads(pickle.dumps(model)), model)
    assert_same(copy.deepcopy(model), model)
    assert keras.models.model_from_json(model.to_json()).class_names == NAMES
    clone = type(model).from_config(model.get_config())
    assert (clone.spec, clone.preprocessing, clone.class_names) == (model.spec, PREPARED, NAMES)
    assert find_bases(clone)[0].origin.spec == model.spec
    plain = keras.models.clone_model(model)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    assert plain.class_names is None  # Keras copies the layers only; what needs more refuses it
    with pytest.raises(ValueError, match="must come from a constructor"):
        keras_senet.save_weights(plain, "clone.weights.h5")
    rebuilt = rebuild(model, {})
    assert (rebuilt.preprocessing, rebuilt.class_names) == (PREPARED, NAMES)


def test_it_looks_as_a_functional_model(capsys):
    model = network()
    assert repr(model) == "<Functional name=tiny, built=True>"
    model.summary()
    assert 'Model: "tiny"' in capsys.readouterr().out
    part = keras.Model(model.input, model.get_layer("stage2_block1_relu").output)
    assert type(part).__module__.startswith("keras.")


def test_an_architecture_of_the_users_own(tmp_path):
    @dataclass(frozen=True)
    class Own(Spec):
        width: int = 4
        se: None = None

        def levels(self, x):
            yield conv_bn_relu(x, self.width, 3, name="stem_conv1")

    model = keras_senet.application(Own(), name="own", input_size=32, classes=10)(weights=None)
    model.save(tmp_path / "own.keras")
    assert keras.models.load_model(tmp_path / "own.keras").spec == Own()
    del Own
    stored = describe(model.spec) | {"class": "Gone"}
    with pytest.raises(ValueError, match="Gone"):
        read_spec(stored)


def test_without_the_import_the_end_of_the_error_names_it(tmp_path, monkeypatch):
    """The names of this package are taken from Keras' list, as in a process that lacks them."""
    network().save(tmp_path / "model.keras")
    nested(network()).save(tmp_path / "nested.keras")
    known = keras.saving.get_custom_objects()
    for name in [name for name in known if name.startswith("keras_senet>")]:
        monkeypatch.delitem(known, name)
    for name in ("model", "nested"):
        with pytest.raises(TypeError, match="Could not locate class") as error:
            keras.models.load_model(tmp_path / f"{name}.keras")
        assert "import keras_senet" in str(error.value)[-500:]


def nested(backbone):
    """A user's own head after a network that is a layer."""
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(2, activation="softmax", name="own")(backbone(inputs))
    return keras.Model(inputs, outputs)


def test_under_a_users_own_head(tmp_path):
    model = nested(network(include_top=False, pooling="avg"))
    model.save(tmp_path / "nested.keras")
    loaded = keras.models.load_model(tmp_path / "nested.keras")
    np.testing.assert_array_equal(loaded(images()), model(images()))
    assert models.Network.of(loaded).preprocessing == PREPARED
    assert models.Network.of(loaded).class_names is None


def test_weights_of_users_models_from_before_load(tmp_path):
    """Keras names a nested model in a file by its class, which was Functional."""
    model = network(include_top=False, pooling="avg")
    before = nested(keras.Model(model.input, model.output, name=model.name))
    before.save_weights(tmp_path / "before.weights.h5")
    now = nested(randomize(network(include_top=False, pooling="avg")))
    now.load_weights(tmp_path / "before.weights.h5")
    np.testing.assert_array_equal(now(images()), before(images()))


def test_files_from_before_load(tmp_path):
    model = network()
    keras.Model(model.input, model.output, name="tiny").save(tmp_path / "before.keras")
    loaded = keras.models.load_model(tmp_path / "before.keras")
    assert not hasattr(loaded, "preprocessing")
    np.testing.assert_array_equal(loaded(images()), model(images()))


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_files_of_weights_name_the_classes(ending, tmp_path):
    model = network()
    keras_senet.save_weights(model, tmp_path / f"w{ending}")
    constructor = models.find(SmallResNet((1, 1)))
    loaded = constructor.load(tmp_path / f"w{ending}", (32, 32))
    assert loaded.class_names == NAMES
    assert loaded.preprocessing == dataclasses.replace(PREPARED, size=32)
    np.testing.assert_allclose(loaded(images()), model(images()), atol=1e-6)


def changed(network, folder, change):
    """The network's `.keras` file with another configuration."""
    network.save(folder / "good.keras")
    with (
        zipfile.ZipFile(folder / "good.keras") as good,
        zipfile.ZipFile(folder / "bad.keras", "w") as bad,
    ):
        config = json.loads(good.read("config.json"))
        change(config["config"]["layers"])
        bad.writestr("config.json", json.dumps(config))
        for name in ("metadata.json", "model.weights.h5"):
            bad.writestr(name, good.read(name))
    return folder / "bad.keras"


def widen_last(layers):
    layers[-1]["config"]["units"] = 10**9


def widen_first(layers):
    layers[1]["config"]["filters"] = 10**9  # which no longer fits what follows


def add_apart(layers):
    config = {"name": "more", "input_dim": 10**9, "output_dim": 512}
    row = {"class_name": "Embedding", "module": "keras.layers", "config": config, "name": "more"}
    layers.append(row | {"inbound_nodes": [], "build_config": {"input_shape": [None, 10]}})


@pytest.mark.parametrize("change", [widen_last, widen_first, add_apart])
def test_layers_larger_than_their_file_are_refused_before_they_are_made(change, tmp_path):
    path = changed(network(), tmp_path, change)
    with pytest.raises(
        ValueError, match=r"bad.keras' is damaged \(its layers have [\d,]{13,} weigh"
    ):
        load_model_file(path)


def test_a_file_that_unpacks_to_far_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", bytes(10_000_000))
    with pytest.raises(ValueError, match="is damaged .*bytes unpack to 10,000,000"):
        load_model_file(tmp_path / "a.keras")


def test_what_is_no_archive_is_called_so(tmp_path):
    (tmp_path / "a.keras").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a.keras' is damaged \(File is not a zip file\)"):
        load_model_file(tmp_path / "a.keras")


def test_a_sequential_file(tmp_path):
    model = keras.Sequential([network(include_top=False, pooling="avg"), keras.layers.Dense(3)])
    model(images())
    model.save(tmp_path / "a.keras")
    loaded = load_model_file(tmp_path / "a.keras")
    assert loaded.preprocessing == PREPARED
    np.testing.assert_array_equal(loaded(images()), model(images()))


def test_variables_with_shapes_only_never_get_values():
    """Keras would give them initial ones after the next computation without state."""
    with shapes_only() as created:
        model = TINY["small"].constructor(weights=None)
    assert {variable.path for variable in created} == {each.path for each in model.weights}
    with keras.StatelessScope():
        pass
    assert all(variable._value is None for variable in created)
