"""Networks get the weights of a training's checkpoint: the right ones, said in the log, or a true
reason why not.
"""

import logging
from dataclasses import replace

import foreign
import numpy as np
import pytest
from tiny import randomize

import keras_senet
from keras_senet import cli
from keras_senet.models.blocks import global_pool
from keras_senet.models.resnet import SE, ResNet
from keras_senet.models.units import Bottleneck, Stem
from keras_senet.weights.registry import split_part

SPEC = ResNet((1,), Bottleneck(stride_on=2), Stem(pool="padded"))  # as timm's own networks are


def constructor(spec=SPEC):
    return keras_senet.application(spec, name="tiny", input_size=32, classes=10, head=global_pool)


def timm(state):
    """The names of timm's own networks."""
    for old, new in {"layer0.": "", "se_module": "se", "last_linear": "fc"}.items():
        state = {name.replace(old, new): array for name, array in state.items()}
    return state


def random_state(spec=SPEC):
    """(a network with random weights, its weights as PyTorch names them)."""
    model = randomize(constructor(spec)(weights=None))
    return model, timm(foreign.torch_state(model))


@pytest.fixture(scope="module")
def trained():
    return random_state()


def prefixed(prefix, state):
    return {f"{prefix}{name}": array for name, array in state.items()}


def noise(state):
    return {name: array + np.float32(1) for name, array in state.items()}


def check_equal(model, network, rtol=0):
    for value, expected in zip(model.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol)


def test_the_average_is_taken_and_said(trained, tmp_path, caplog):
    network, state = trained
    path = tmp_path / "checkpoint.pth.tar"
    path.write_bytes(
        foreign.torch_save(
            {"state_dict": noise(state), "state_dict_ema": prefixed("module.", state)}
        )
    )
    check_equal(constructor()(weights=path), network)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("keras_senet", logging.WARNING)
    assert (
        "the weights are those of its 'state_dict_ema'; the prefix 'module.'" in record.getMessage()
    )
    assert (
        "it also has 'state_dict': `weights='FILE#state_dict'` takes 'state_dict'"
        in record.getMessage()
    )
    check_equal(constructor()(weights=f"{path}#state_dict_ema"), network)
    other = constructor()(weights=f"{path}#state_dict")
    np.testing.assert_array_equal(
        other.get_layer("stem_conv1").get_weights()[0].transpose(3, 2, 0, 1),
        state["conv1.weight"] + 1,
    )


def test_a_bare_file_needs_no_words(trained, tmp_path, caplog):
    network, state = trained
    (tmp_path / "a.pt").write_bytes(foreign.torch_save(state))
    check_equal(constructor()(weights=tmp_path / "a.pt"), network)
    assert not caplog.records


@pytest.mark.parametrize(
    ("dtype", "rtol"), [("float16", 1e-3), (foreign.bfloat16, 1e-2), ("float64", 0)]
)
def test_other_precisions(trained, dtype, rtol, tmp_path):
    network, state = trained
    content = {"model": {name: array.astype(dtype) for name, array in state.items()}}
    (tmp_path / "pytorch_model.bin").write_bytes(foreign.torch_save(content))
    check_equal(constructor()(weights=tmp_path / "pytorch_model.bin"), network, rtol)


def test_the_top_is_left_out_after_the_prefix(trained, tmp_path):
    network, state = trained
    (tmp_path / "a.ckpt").write_bytes(
        foreign.torch_save({"state_dict": prefixed("model.", state)}, stream=True)
    )
    bare = constructor()(weights=tmp_path / "a.ckpt", include_top=False)
    for value, expected in zip(bare.get_weights(), network.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(value, expected)


def linear(state):
    """SE blocks of two Linear layers: moskomule/senet.pytorch."""
    names = {".se.fc1.": ".se.fc.0.", ".se.fc2.": ".se.fc.2."}
    found = {}
    for name, array in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        found[name] = array[:, :, 0, 0] if ".se." in name and array.ndim == 4 else array
    return found


def test_linear_layers_in_the_blocks(trained, tmp_path):
    network, state = trained
    (tmp_path / "a.pth").write_bytes(foreign.torch_save(linear(state)))
    check_equal(constructor()(weights=tmp_path / "a.pth"), network)


def test_blocks_without_biases(tmp_path):
    """As in moskomule/senet.pytorch; the network has none either, and so outputs the same as with
    biases of 0.
    """
    network, state = random_state(replace(SPEC, se=SE(use_bias=False)))
    (tmp_path / "a.pth").write_bytes(foreign.torch_save(linear(state)))
    loaded = constructor()(weights=tmp_path / "a.pth")
    assert loaded.spec == network.spec
    check_equal(loaded, network)


def check_refused(state, tmp_path, match, name="a.pth", **options):
    (tmp_path / name).write_bytes(foreign.torch_save(state))
    with pytest.raises(ValueError, match=match) as error:
        constructor()(weights=tmp_path / name, **options)
    assert "damaged" not in str(error.value)
    return str(error.value)


def test_another_network_is_refused_for_what_it_has(trained, tmp_path):
    state = trained[1]
    plain = {name: array for name, array in state.items() if ".se." not in name}
    match = "missing: stage2_block1_se_reduce/kernel"
    assert "no classifier" not in check_refused({"model": plain}, tmp_path, f"its 'model'.*{match}")
    backbone = {name: array for name, array in state.items() if not name.startswith("fc.")}
    check_refused(
        prefixed("module.", backbone),
        tmp_path,
        "the file has no classifier. Pass `include_top=False`",
    )
    without_both = {name: array for name, array in plain.items() if not name.startswith("fc.")}
    assert "no classifier" not in check_refused(without_both, tmp_path, match)
    vgg = {
        "features.0.weight": np.zeros((64, 3, 3, 3), "float32"),
        "classifier.weight": np.zeros((10, 4), "float32"),
    }
    check_refused({"state_dict": vgg}, tmp_path, "missing: stem_conv1/kernel.*left over: features")
    check_refused(state, tmp_path, "10 classes, `classes` is 7", classes=7)
    parts = {name: state[name] for name in list(state)[:8]}
    check_refused(parts, tmp_path, "one of several", name="pytorch_model-00001-of-00002.bin")


def test_whole_numbers_are_not_weights(trained, tmp_path):
    state = trained[1] | {"conv1.weight": np.zeros(trained[1]["conv1.weight"].shape, "int8")}
    check_refused(state, tmp_path, "stem_conv1/kernel has whole numbers \\(int8\\)")


def test_parts_of_sources(tmp_path):
    (tmp_path / "a#b.pth").write_bytes(b"")
    assert split_part(tmp_path / "a#b.pth") == (tmp_path / "a#b.pth", None)
    assert split_part(f"{tmp_path}/a#b.pth#c.d") == (tmp_path / "a#b.pth", "c.d")
    assert split_part("hf://me/net#model") == ("hf://me/net", "model")
    assert split_part("hf://me/net") == ("hf://me/net", None)


def test_the_commands_say_it(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("keras_senet.models.get", lambda name: constructor())
    network, state = trained
    (tmp_path / "a.pth").write_bytes(foreign.torch_save({"model": state, "epoch": 3}))
    output = str(tmp_path / "a.safetensors")
    assert (
        cli.main(["convert", str(tmp_path / "a.pth"), "--model", "SEResNet20", "--output", output])
        == 0
    )
    errors = capsys.readouterr().err
    assert errors.count("keras-senet convert: ") == 1
    assert "the weights are those of its 'model'" in errors
    check_equal(constructor()(weights=output), network)
    (tmp_path / "a.pth").write_bytes(
        foreign.torch_save({"generator": state, "discriminator": noise(state)})
    )
    assert (
        cli.main(
            [
                "convert",
                str(tmp_path / "a.pth"),
                "--model",
                "SEResNet20",
                "--output",
                output,
                "--overwrite",
            ]
        )
        == 2
    )
    assert "2 networks: 'generator', 'discriminator'" in capsys.readouterr().err
