"""Models that users build on a network, in plain Keras, are taken as networks are."""

import contextlib
import functools
import logging
from dataclasses import dataclass, replace
from typing import ClassVar

import h5py
import keras
import little
import numpy as np
import pytest
from keras import layers
from tiny import randomize

import keras_senet
from keras_senet import analysis, data
from keras_senet.analysis import complexity, excitations, prune, remove_se
from keras_senet.bases import preprocessing_of
from keras_senet.evaluation import evaluate
from keras_senet.models.resnet import ResNet
from keras_senet.models.units import Basic, Stem
from keras_senet.report.predictions import predict_dataset
from keras_senet.report.sections import describe_network


@dataclass(frozen=True)
class Narrow(ResNet):
    """A ResNet of few channels."""

    base: ClassVar[int] = 16


SPEC = Narrow((1, 1, 1, 1), Basic(), stem=Stem(((3, 16, 2),)))
NETWORK = keras_senet.application(SPEC, name="tiny", input_size=32, classes=10)
CLASSES = ("cat", "dog", "emu")


def network(**options):
    return randomize(NETWORK(include_top=False, weights=None, **options))


def head(x, activation="softmax"):
    x = layers.Dense(8, activation="relu", name="hidden")(layers.Dropout(0.2)(x))
    return layers.Dense(3, activation=activation, name="scores")(x)


def pooled(x):
    return layers.GlobalAveragePooling2D()(x)


def flat(activation="softmax", **options):
    base = network(**options)
    return keras.Model(base.input, head(pooled(base.output), activation))


def within(before=lambda base, x: x, norm=False, **options):
    """The form of Keras' guides: `before`, then the network as one layer, then a head."""
    base, images = network(**options), keras.Input((32, 32, 3))
    x = pooled(base(before(base, images), training=False))
    return keras.Model(images, head(layers.BatchNormalization()(x) if norm else x))


def augmented(_, x):
    return layers.RandomZoom(0.1)(layers.RandomFlip()(x))


def cut_from_a_classifier():
    whole = NETWORK(weights=None)
    return keras.Model(whole.input, head(whole.get_layer("avg_pool").output))


def two_outputs():
    base = network(pooling="avg")
    sizes = layers.Dense(1, name="size")(base.output)
    return keras.Model(base.input, {"kind": head(base.output), "size": sizes})


def sequential(*before):
    after = [layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(3, "softmax")]
    return keras.Sequential([*before, network(), *after])


def on_a_tensor():
    images = keras.Input((32, 32, 3))
    base = network(input_tensor=layers.Rescaling(1 / 127.5, -1)(images))
    return keras.Model(images, head(pooled(base.output)))


def adapted(_, x):
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("float32"))
    return layer(x)


CLASSIFIERS = {
    "flat": flat,
    "flat, pooled by the network": lambda: (
        lambda base: keras.Model(base.input, head(base.output))
    )(network(pooling="avg")),
    "logits": lambda: flat(None),
    "cut from a classifier": cut_from_a_classifier,
    "within": within,
    "within, augmented": lambda: within(augmented),
    "within, of any size": lambda: within(input_shape=(None, None, 3)),
    "within, batch normalisation after": lambda: within(norm=True),
    "within, rescaled": lambda: within(lambda _, x: layers.Rescaling(1 / 127.5, -1)(x)),
    "within, adapted": lambda: within(adapted),
    "within, normalised": lambda: within(lambda base, x: base.preprocessing.normalize(x)),
    "sequential": sequential,
    "sequential, nested": lambda: sequential(
        keras.Input((32, 32, 3)), keras.Sequential([layers.RandomFlip(), layers.RandomZoom(0.1)])
    ),
    "on a tensor": on_a_tensor,
}
FORMS = CLASSIFIERS | {"two outputs": two_outputs}
built = functools.cache(lambda form: FORMS[form]())  # for tests that do not change it
another = functools.cache(lambda form: FORMS[form]())  # for those that load its weights
every_form = pytest.mark.parametrize("form", FORMS)
every_classifier = pytest.mark.parametrize("form", CLASSIFIERS)
# These stand for the others, which differ in what is around the network: those are slow tests where
# a network is made or written again.
STAND = ("flat", "within", "within, augmented", "sequential", "two outputs")
# Keras names what is in its files by how models are nested.
WRITTEN = (*STAND, "cut from a classifier", "sequential, nested", "on a tensor")
some_forms = pytest.mark.parametrize(
    "form",
    [form if form in STAND else pytest.param(form, marks=pytest.mark.slow) for form in FORMS],
)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


# Pipelines are traced all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config")
# These are traced: a Keras model in a model, and layers that do nothing but in training.
IN_GRAPHS = ("within, augmented", "sequential, nested")


@pytest.fixture(autouse=True)
def eagerly(request):
    """Of forms in graphs two stand for the others: what is called once takes longer to trace than
    to run.
    """
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    in_graph = parameters.get("form") in IN_GRAPHS
    with contextlib.nullcontext() if in_graph else little.eagerly():
        yield


def images(count=6):
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), "uint8")


def dataset(count=12):
    return data.Dataset(images(count), np.arange(count) % 3, CLASSES)


def outputs(model, x=None):
    x = images().astype("float32") if x is None else x
    return [np.asarray(each) for each in keras.tree.flatten(model(x, training=False))]


NAMES = [layer.name for layer in NETWORK(weights=None, include_top=False).layers[1:]]


def base_layers(model):
    """The network's layers, by their names, which no other layer has."""
    found = {each.name: each for each in model._flatten_layers()}
    return {name: found[name] for name in NAMES}


def reached(model, layer):
    """What a layer of the network outputs for images as the model takes them, by Keras' own tap."""
    outer = model if isinstance(model, keras.Sequential) else None
    inner = next((each for each in model.layers if each.name == "tiny"), None)
    if inner is None:
        return lambda x: np.asarray(keras.Model(model.input, layer.output)(x, training=False))
    rest = keras.Model(inner.input, layer.output)

    def compute(x):
        for each in model.layers if outer else ():
            if each is inner:
                return np.asarray(rest(x, training=False))
            x = each(x, training=False)
        node = inner._inbound_nodes[-1]
        before = node.input_tensors[0]
        x = keras.Model(model.input, before)(x, training=False) if before is not model.input else x
        return np.asarray(rest(x, training=False))

    return compute


# Weights


@pytest.mark.parametrize(
    ("form", "ending"),
    [
        pytest.param(form, ending, marks=pytest.mark.slow if slow else ())
        for form in FORMS
        for ending in (".weights.h5", ".safetensors")
        for slow in [form not in (WRITTEN if ending == ".weights.h5" else STAND)]
    ],
)
def test_weights_load_into_an_equal_model_and_the_network_takes_its_part(form, ending, tmp_path):
    path, model, other = tmp_path / f"a{ending}", built(form), another(form)
    for variable in other.weights:
        variable.assign(keras.ops.ones_like(variable))
    keras_senet.save_weights(model, path)
    keras_senet.load_weights(other, path)
    for found, right in zip(outputs(other), outputs(model), strict=True):
        np.testing.assert_array_equal(found, right)
    alone = NETWORK(include_top=False, weights=path)
    right = base_layers(model)
    for layer in alone.layers[1:]:
        for found, expected in zip(layer.weights, right[layer.name].weights, strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_keras_loads_the_file_too(tmp_path):
    model, other = within(augmented), within(augmented)
    keras_senet.save_weights(model, tmp_path / "a.weights.h5")
    other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(*(outputs(each)[0] for each in (model, other)))


@pytest.mark.parametrize(
    ("before", "mean", "std"),
    [
        (lambda _, x: x, *(getattr(NETWORK.preprocessing, name) for name in ("mean", "std"))),
        (lambda _, x: layers.Rescaling(1 / 255)(x), (0.0,) * 3, (255.0,) * 3),
        (lambda _, x: layers.Rescaling(1 / 127.5, -1)(x), (127.5,) * 3, (127.5,) * 3),
        (lambda _, x: x / 2.0 - 3.0, (6.0,) * 3, (2.0,) * 3),
    ],
)
def test_the_file_says_what_the_network_was_given_of_images(before, mean, std, tmp_path):
    keras_senet.save_weights(within(before), tmp_path / "a.safetensors")
    found = NETWORK(include_top=False, weights=tmp_path / "a.safetensors").preprocessing
    np.testing.assert_allclose(found.mean, mean, atol=1e-3)
    np.testing.assert_allclose(found.std, std, rtol=1e-4)


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_a_head_of_a_user_is_no_classifier_of_ours(ending, tmp_path):
    base = network(pooling="avg")
    model = keras.Model(base.input, layers.Dense(10, name="predictions")(base.output))
    keras_senet.save_weights(model, tmp_path / f"a{ending}")
    with pytest.raises(ValueError, match="a head that its user built. Pass `include_top=False`"):
        NETWORK(weights=tmp_path / f"a{ending}")


def test_another_head_or_network_is_refused(tmp_path):
    keras_senet.save_weights(flat(), tmp_path / "a.safetensors")
    keras_senet.save_weights(flat(), tmp_path / "a.weights.h5")
    other = keras_senet.application(replace(SPEC, depths=(1, 1, 1, 2)), name="other", input_size=32)
    base = other(include_top=False, weights=None)
    deeper = keras.Model(base.input, head(pooled(base.output)))
    wider = keras.Model((n := network()).input, layers.Dense(4, name="scores")(pooled(n.output)))
    for ending in (".safetensors", ".weights.h5"):
        with pytest.raises(ValueError, match="another architecture"):
            keras_senet.load_weights(deeper, tmp_path / f"a{ending}")
        with pytest.raises(ValueError, match="do not fit"):
            keras_senet.load_weights(wider, tmp_path / f"a{ending}")


def test_values_that_are_not_finite_are_refused_for_layers_of_users_too(tmp_path):
    model, other, path = flat(), flat(), tmp_path / "a.weights.h5"
    keras_senet.save_weights(model, path)
    with h5py.File(path, "a") as file:
        file["layers/dense_1/vars/1"][:] = np.nan
    before = other.get_weights()
    with pytest.raises(ValueError, match="layers/dense_1/vars/1 has values that are not finite"):
        keras_senet.load_weights(other, path)
    for value, expected in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def of_two():
    first, second = network(pooling="avg"), network(pooling="avg", name="other")
    x = keras.Input((32, 32, 3))
    return keras.Model(x, layers.Add()([first(x), second(x)]))


def of_a_part():
    base = network()
    return keras.Model(base.input, pooled(base.get_layer("stage4_block1_relu").output))


def of_none():
    x = keras.Input((32, 32, 3))
    return keras.Model(x, pooled(x))


REFUSED = {
    of_two: "must contain one network of keras_senet. Received: .* with 'tiny', 'other'",
    of_a_part: "must contain the whole of 'tiny'. Received: .* without 'stage5_block1_conv1'",
    of_none: "must come from a constructor of keras_senet, or be a functional model that",
}


@pytest.mark.parametrize("build", REFUSED)
def test_what_has_no_single_whole_network(build, tmp_path):
    model = build()
    for use in (
        keras_senet.features,
        lambda model: keras_senet.save_weights(model, tmp_path / "a.weights.h5"),
        lambda model: keras_senet.load_weights(model, tmp_path / "a.weights.h5"),
    ):
        with pytest.raises(ValueError, match=REFUSED[build]) as refused:
            use(model)
        assert "\n" not in str(refused.value)


# Preprocessing


OWN, NONE = NETWORK.preprocessing, ((0.0,) * 3, (1.0,) * 3)
PREPARED = {  # (mean, std), and whether the log says that it is assumed
    "flat": ((OWN.mean, OWN.std), False),
    "within, augmented": ((OWN.mean, OWN.std), False),
    "sequential, nested": ((OWN.mean, OWN.std), False),
    "within, normalised": (NONE, False),
    "within, rescaled": (NONE, OWN.mean != (127.5,) * 3),
    "within, adapted": (NONE, True),
    "on a tensor": (NONE, OWN.mean != (127.5,) * 3),
}


@pytest.mark.parametrize("form", PREPARED)
def test_preprocessing_is_the_networks_unless_the_model_has_its_own(form, caplog):
    right, is_assumed = PREPARED[form]
    with caplog.at_level(logging.WARNING, "keras_senet"):
        model = CLASSIFIERS[form]()
        found = preprocessing_of(model)
    assert (found.mean, found.std) == right
    assert found is model.preprocessing
    assert ("taken to be 0..255" in caplog.text) == is_assumed


def test_what_the_user_sets_counts():
    model = flat()
    model.preprocessing = keras_senet.Preprocessing((1, 2, 3), (4, 5, 6), 32)
    found = excitations(model, dataset())
    other = flat()
    other.set_weights(model.get_weights())
    assert not np.allclose(
        *(e.blocks["stage2_block1_se"].mean for e in (found, excitations(other, dataset())))
    )


# Analysis and evaluation


def normalized(model, x):
    return np.asarray(preprocessing_of(model).normalize(x))


@every_classifier
def test_accuracy_is_that_of_plain_keras(form):
    model, images = built(form), dataset()
    found = evaluate(model, images)
    predicted = outputs(model, normalized(model, images.images))[0].argmax(1)
    assert found.top1 == np.mean(predicted == images.labels)


@every_form
def test_gates_are_those_of_a_tap(form):
    model = built(form)
    own = base_layers(model).values()
    blocks = [each for each in own if isinstance(each, keras_senet.SqueezeExcite)]
    found = excitations(model, dataset()).blocks
    assert [name.rpartition("/")[2] for name in found] == [block.name for block in blocks]
    x = normalized(model, dataset().images)
    for block, figures in zip(blocks, found.values(), strict=True):
        conv = next(each for each in own if each.output is block.input)
        gates = np.asarray(block.excitation(reached(model, conv)(x)))[:, 0, 0]
        np.testing.assert_allclose(figures.mean, gates.mean(0), rtol=1e-4, atol=1e-5)


@every_form
def test_features_are_the_networks(form):
    model = built(form)
    view = keras_senet.features(model)
    x = images().astype("float32")
    found = view(x, training=False)
    assert list(found) == ["C2", "C3", "C4", "C5"]
    for stage, maps in zip((2, 3, 4, 5), found.values(), strict=True):
        layer = base_layers(model)[f"stage{stage}_block1_relu"]
        np.testing.assert_allclose(np.asarray(maps), reached(model, layer)(x), rtol=1e-5, atol=1e-5)


@every_form
def test_parameters_and_multiply_adds_are_the_networks_and_the_heads(form):
    model = built(form)
    found = complexity(model)
    assert found.parameters + found.statistics == model.count_params()
    dense = [each for each in model._flatten_layers() if isinstance(each, layers.Dense)]
    products = sum(int(np.prod(each.kernel.shape)) for each in dense)
    assert found.multiply_adds == alone().multiply_adds + products
    assert found.rescaled == alone().rescaled


@functools.cache
def alone():
    """The network's own counts."""
    return complexity(NETWORK(include_top=False, weights=None))


# Three forms stand for the others: each is built twice more.
@pytest.mark.parametrize(
    "form",
    [
        form
        if form in ("flat", "within", "sequential")
        else pytest.param(form, marks=pytest.mark.slow)
        for form in CLASSIFIERS
    ],
)
def test_pruning_changes_nothing_but_the_network(form):
    model = built(form)
    whole, half = (prune(model, keep, ranking="random") for keep in (1.0, 0.5))
    np.testing.assert_allclose(outputs(whole)[0], outputs(model)[0], rtol=1e-4, atol=1e-5)
    base = NETWORK(include_top=False, weights=None)
    for name, layer in base_layers(model).items():
        base.get_layer(name).set_weights(layer.get_weights())
    smaller = prune(base, 0.5, ranking="random")
    assert (
        model.count_params() - half.count_params() == base.count_params() - smaller.count_params()
    )
    for layer in smaller.layers[1:]:
        for found, right in zip(base_layers(half)[layer.name].weights, layer.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(right))
    assert evaluate(half, dataset()).images.sum() == 12


@some_forms
def test_without_blocks_the_network_has_its_new_spec(form, tmp_path):
    model = built(form)
    plain = remove_se(model, stages=(2, 3))
    keras_senet.save_weights(plain, tmp_path / "a.safetensors")
    spec = remove_se(NETWORK(weights=None), stages=(2, 3)).spec
    again = NETWORK.variant(spec)(include_top=False, weights=tmp_path / "a.safetensors")
    for layer in again.layers[1:]:
        right = base_layers(model)[layer.name].weights
        for found, expected in zip(layer.weights, right, strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    with pytest.raises(ValueError, match="another architecture"):
        NETWORK(include_top=False, weights=tmp_path / "a.safetensors")


@pytest.mark.parametrize("form", ["flat", "within, augmented", "sequential"])
def test_a_page_describes_it(form):
    model = built(form)
    assert describe_network(model)["se_blocks"] == 4
    assert len(predict_dataset(model, dataset()).gates) == 4


# Networks of keras.applications with SE blocks


def of_keras():
    x = inputs = keras.Input((32, 32, 3))
    for i in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 1, name=f"conv{i}_1")(x)))
        y = layers.BatchNormalization(name=f"conv{i}_bn")(
            layers.Conv2D(16, 3, 2, name=f"conv{i}_2")(y)
        )
        x = layers.ReLU()(y)
    return randomize(keras_senet.add_se(keras.Model(inputs, x), r"conv\d_bn", reduction=4))


def test_a_gated_network_of_another_package(tmp_path):
    base, x = of_keras(), keras.Input((32, 32, 3))
    model = keras.Model(x, head(pooled(base(layers.RandomFlip()(x)))))
    with pytest.raises(ValueError, match="must have the attribute `preprocessing`"):
        evaluate(model, dataset())
    base.preprocessing = keras_senet.Preprocessing((127.5,) * 3, (64,) * 3, 32)
    assert len(excitations(model, dataset()).blocks) == 2
    assert evaluate(prune(model, 0.5, images=dataset()), dataset()).images.sum() == 12
    assert evaluate(remove_se(model), dataset()).images.sum() == 12
    with pytest.raises(ValueError, match=r"Use `model.save_weights` for it"):
        keras_senet.save_weights(model, tmp_path / "a.weights.h5")


# Freezing, as notebook 02 says


def statistics(model):
    return [np.asarray(w) for w in model.weights if w.name.startswith("moving_")]


@pytest.mark.parametrize("form", ["flat", "within, augmented", "sequential"])
def test_a_frozen_network_keeps_its_statistics_and_an_unfrozen_one_does_not(form):
    """Whatever `training` it is called with: `fit` calls each layer with True."""
    x, y = normalized(model := CLASSIFIERS[form](), images()), np.arange(6) % 3
    norms = [
        each for each in base_layers(model).values() if isinstance(each, layers.BatchNormalization)
    ]
    for layer in base_layers(model).values():
        layer.trainable = layer not in norms
    eager = {"run_eagerly": form not in IN_GRAPHS}
    model.compile("sgd", "sparse_categorical_crossentropy", **eager)
    before = statistics(model)
    model.fit(x, y, verbose=0)
    assert all(map(np.array_equal, before, statistics(model)))
    for layer in norms:
        layer.trainable = True
    model.compile("sgd", "sparse_categorical_crossentropy", **eager)
    model.fit(x, y, verbose=0)
    assert not any(map(np.array_equal, before, statistics(model)))


def test_gates_within_have_the_models_name():
    assert list(analysis.gates(within()).output) == [
        f"tiny/stage{i}_block1_se" for i in range(2, 6)
    ]
