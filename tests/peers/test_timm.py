"""Files of timm's networks give timm's logits: `pytest -m peer`."""

import importlib

import numpy as np
import pytest

import keras_senet
from keras_senet.weights.readers import open_file

pytestmark = pytest.mark.peer


@pytest.fixture
def peer():
    """timm is imported by the tests that run alone: without it, the others are still collected."""
    return importlib.import_module("timm_networks")


# timm's network            ours                     the kind of file that its weights are published
# in
NETWORKS = """
legacy_seresnet18           SEResNet18               .pth
legacy_seresnet34           SEResNet34               .pth
legacy_seresnet50           SEResNet50               .pth
legacy_seresnet101          SEResNet101              .pth
legacy_seresnet152          SEResNet152              .pth
legacy_seresnext26_32x4d    SEResNeXt26              .pth
legacy_seresnext50_32x4d    SEResNeXt50              .pth
legacy_seresnext101_32x4d   SEResNeXt101             .pth
legacy_senet154             SENet154                 .pth
seresnet50                  SEResNet50               .safetensors
seresnet152d                SEResNet152D             .safetensors
seresnext26d_32x4d          SEResNeXt26D             .safetensors
seresnext26t_32x4d          SEResNeXt26T             .safetensors
seresnext50_32x4d           SEResNeXt50              .safetensors
seresnext101_32x4d          SEResNeXt101             .safetensors
seresnext101_32x8d          SEResNeXt101_32x8d       .safetensors
seresnext101d_32x8d         SEResNeXt101D_32x8d      .safetensors
seresnext101_64x4d          SEResNeXt101_64x4d       .safetensors
senet154                    SENet154                 .safetensors
"""
ROWS = [line.split() for line in NETWORKS.strip().splitlines()]
# Even and odd ones in each stage; the weights are what is compared, so small ones do
SIZES = (96, 103)


def difference(ours, theirs):
    """The largest difference of logits, over their standard deviation."""
    return np.abs(ours - theirs).max() / theirs.std()


def images(size, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(2, size, size, channels)).astype("float32")


@pytest.mark.parametrize(("theirs", "ours", "ending"), ROWS, ids=[row[0] for row in ROWS])
def test_equal_logits(theirs, ours, ending, peer, tmp_path):
    network = peer.create(theirs)
    path = tmp_path / f"published{ending}"
    peer.save(network, path)
    constructor = getattr(keras_senet, ours)
    model = constructor(weights=path, input_shape=(None, None, 3), classifier_activation=None)
    for size in SIZES:
        assert difference(model(images(size)).numpy(), peer.logits(network, images(size))) < 1e-4


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_adapted_as_timm_does(channels, peer, tmp_path):
    network = peer.create("legacy_seresnet18")
    peer.save(network, tmp_path / "published.pth")
    theirs = peer.timm.create_model("legacy_seresnet18", in_chans=channels)
    state = network.state_dict()
    state["layer0.conv1.weight"] = peer.timm.models.adapt_input_conv(
        channels, state["layer0.conv1.weight"]
    )
    theirs.load_state_dict(state)
    model = keras_senet.SEResNet18(
        weights=tmp_path / "published.pth",
        input_shape=(64, 64, channels),
        classifier_activation=None,
    )
    assert (
        difference(
            model(images(64, channels)).numpy(), peer.logits(theirs.eval(), images(64, channels))
        )
        < 1e-4
    )
    assert len(model.preprocessing.mean) == channels


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_both_formats_of_torch_save(zipped, peer, tmp_path):
    torch = peer.torch
    network = peer.create("legacy_seresnet18")
    state = network.state_dict()
    state["layer0.conv1.weight"] = state["layer0.conv1.weight"].contiguous(
        memory_format=torch.channels_last
    )
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with open_file(tmp_path / "a.pth") as file:
        assert file.entries.keys() == state.keys()
        for name, entry in file.entries.items():
            np.testing.assert_array_equal(entry.read(), state[name].numpy())
