"""timm's networks with random weights and statistics, saved as they are published."""

from importlib.util import find_spec
from pathlib import Path

import torch

# timm needs torchvision's Python part, which needs two operators of its binary, and nothing here
# runs them: where the binary does not load, as beside a PyTorch for CPUs, they are only declared.
try:
    torch.ops.load_library(next(Path(find_spec("torchvision").origin).parent.glob("_C.*")))
except (OSError, StopIteration):
    _OPERATORS = torch.library.Library("torchvision", "DEF")
    _OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm

torch.set_num_threads(2)


def create(name, seed=0, **options):
    """A network in evaluation mode, random, with the statistics of random images."""
    torch.manual_seed(seed)
    network = timm.create_model(name, **options)
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    lasts = [last_of(unit) for unit in network.modules() if hasattr(unit, "downsample")]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1)
            norm.bias.uniform_(-0.1, 0.1)
        for norm in lasts:
            norm.weight.uniform_(0.1, 0.3)
    settle(network, norms, torch.randn(4, options.get("in_chans", 3), 160, 160))
    return network.eval()


def last_of(unit):
    """The last batch normalisation of a residual branch: small as in trained networks, or rounding
    grows with depth.
    """
    return unit.bn3 if hasattr(unit, "bn3") else unit.bn2


def settle(network, norms, images):
    """Takes the statistics of batch normalisation from images, and disturbs them: activations keep
    usual sizes.
    """
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(images)
        for norm in norms:
            norm.running_mean += 0.1 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
            norm.running_var *= 0.8 + 0.4 * torch.rand_like(norm.running_var)


def logits(network, images):
    """(N, classes) of images (N, H, W, C), as NumPy arrays."""
    with torch.no_grad():
        return network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def save(network, path):
    """The state dict: `.safetensors` as on the Hub, or `.pth` as torch.save writes it."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(network.state_dict(), path, metadata={"format": "pt"})
    else:
        torch.save(network.state_dict(), path)
