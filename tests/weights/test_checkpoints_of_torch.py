"""Files that torch itself has written are read as torch reads them: `pytest -m backend`."""

import argparse
import datetime
import importlib
import pathlib

import numpy as np
import pytest
from foreign import open_file

from keras_senet.weights import UnsupportedFileError

pytestmark = [
    pytest.mark.backend,
    pytest.mark.filterwarnings("ignore:.*(quantize_per_tensor|torch.jit|sparse|UntypedStorage).*"),
]


@pytest.fixture(scope="module")
def torch():
    """Imported by the tests that run: without it, they are still collected."""
    return importlib.import_module("torch")


@pytest.fixture
def network(torch):
    """A network whose names are those of timm's first stages."""
    torch.manual_seed(0)

    class Unit(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(4, 4, 3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(4)

        def forward(self, x):
            return self.bn1(self.conv1(x))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 4, 3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(4)
            self.layer1 = torch.nn.Sequential(Unit())
            self.fc = torch.nn.Linear(4, 5)

        def forward(self, x):
            return self.fc(self.layer1(self.bn1(self.conv1(x))).mean((2, 3)))

    return Network()


def trained(torch, network):
    """The network after a step, and its optimizer."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.randn(2, 3, 9, 9)).sum().backward()
    optimizer.step()
    return optimizer


def wrapped(torch, network, optimizer):
    """What a training saves, by the name of what the file holds."""
    average = torch.optim.swa_utils.AveragedModel(network)
    state = network.state_dict()
    beside = {
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9).state_dict(),
        "scaler": torch.amp.GradScaler("cpu", enabled=False).state_dict(),
        "rng": torch.get_rng_state(),
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), dtype=torch.float16),
        "best": np.float64(1.5),
        "history": np.arange(3),
        "path": pathlib.Path("runs"),
        "when": datetime.datetime(2026, 1, 1),
        "shape": torch.Size((1, 2)),
    }
    return {
        "state": state,
        "parameters": dict(network.named_parameters()) | dict(network.named_buffers()),
        "DataParallel": torch.nn.DataParallel(network).state_dict(),
        "compiled": torch.compile(torch.nn.DataParallel(network)).state_dict(),
        "average": {
            "model": {k: v + 1 for k, v in state.items()},
            "model_ema": average.state_dict(),
            **beside,
        },
        "checkpoint": {"state_dict": state, **beside},
        "attributes": {"model": {k: with_attribute(v) for k, v in state.items()}},
        "halves": {"model": {k: v.half() for k, v in state.items()}},
        "bfloat16": {"model": {k: v.bfloat16() for k, v in state.items()}},
        "double": {"model": {k: v.double() for k, v in state.items()}},
        "channels last": {
            k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v
            for k, v in state.items()
        },
        "one block": in_one_block(torch, state),
    }


def with_attribute(tensor):
    tensor = tensor.clone()
    tensor.note = "from here"
    return tensor


def in_one_block(torch, state):
    """The tensors as views on one, as FSDP has them."""
    block = torch.cat([tensor.flatten().float() for tensor in state.values()])
    return {
        name: part.view(tensor.shape)
        for (name, tensor), part in zip(
            state.items(), block.split([t.numel() for t in state.values()]), strict=True
        )
    }


NAMES = (
    "state", "parameters", "DataParallel", "compiled", "average", "checkpoint", "attributes", "halves", "bfloat16",
    "double", "channels last", "one block",
)  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_those_of_torch(name, zipped, torch, network, tmp_path):
    content = wrapped(torch, network, trained(torch, network))[name]
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    loaded = torch.load(tmp_path / "a.pt", weights_only=False)
    while not torch.is_tensor(next(iter(loaded.values()))) or "model" in loaded:
        loaded = next(
            loaded[name] for name in ("model_ema", "state_dict", "model") if name in loaded
        )
    with open_file(tmp_path / "a.pt") as file:
        prefix = file.part.prefix
        expected = {k.removeprefix(prefix): v for k, v in loaded.items() if k.startswith(prefix)}
        assert file.entries.keys() == expected.keys()
        assert expected.keys() == network.state_dict().keys()
        for key, entry in file.entries.items():
            tensor = expected[key].detach()
            tensor = tensor.float() if tensor.is_floating_point() else tensor
            np.testing.assert_array_equal(entry.read(), tensor.numpy(), strict=True)


def unreadable(torch):
    """Tensors that are not plain numbers, and what is said of them."""
    return {
        "is quantised": torch.quantize_per_tensor(torch.zeros(4, 3), 0.1, 0, torch.qint8),
        "is a meta tensor": torch.zeros(4, 3, device="meta"),
        "is sparse": torch.zeros(4, 3).to_sparse(),
        "numbers of the type torch.float8_e4m3fn": torch.zeros(4, 3, dtype=torch.float8_e4m3fn),
        "numbers of the type torch.uint16": torch.zeros(4, 3, dtype=torch.uint16),
        "has complex numbers": torch.zeros(4, 3, dtype=torch.complex64),
        "negates": torch.zeros(4, 3, dtype=torch.complex64).conj().imag,
    }


REASONS = (
    "is quantised",
    "is a meta tensor",
    "is sparse",
    "numbers of the type torch.float8_e4m3fn",
    "numbers of the type torch.uint16",
    "has complex numbers",
    "negates",
)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_tensors_that_are_not_read(reason, zipped, torch, tmp_path):
    state = {
        "layer0.conv1.weight": unreadable(torch)[reason],
        "last_linear.weight": torch.zeros(5, 4),
    }
    torch.save({"model": state}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsupportedFileError, match=f"'layer0.conv1.weight' .*{reason}"):
        open_file(tmp_path / "a.pth").__enter__()


def test_programs_and_whole_models(torch, network, tmp_path):
    torch.jit.trace(network.eval(), torch.zeros(1, 3, 9, 9)).save(tmp_path / "script.pt")
    with pytest.raises(UnsupportedFileError, match="TorchScript archive"):
        open_file(tmp_path / "script.pt").__enter__()
    for zipped in (True, False):
        torch.save(
            torch.nn.Sequential(torch.nn.Linear(2, 3)),
            tmp_path / "a.pt",
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(
            UnsupportedFileError,
            match=r"an object of torch.nn.modules.container.Sequential.*state_dict",
        ):
            open_file(tmp_path / "a.pt").__enter__()
