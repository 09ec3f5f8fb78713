"""The PyTorch networks that ours are compared with: timm's, and SE-ResNet-20, which timm lacks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))

from timm_networks import timm, torch
from torch import nn


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=16):
        super().__init__()
        width = max(1, channels // reduction)
        self.reduce, self.expand = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)

    def forward(self, x):
        gate = self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


def conv_bn(before, width, kernel, stride=1):
    convolution = nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


class Unit(nn.Module):
    """relu(se(bn(3x3(relu(bn(3x3(x)))))) + shortcut(x))."""

    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1, self.conv2 = conv_bn(before, width, 3, stride), conv_bn(width, width, 3)
        self.se = SqueezeExcite(width)
        changes = stride != 1 or before != width
        self.shortcut = conv_bn(before, width, 1, stride) if changes else nn.Identity()

    def forward(self, x):
        branch = self.se(self.conv2(torch.relu(self.conv1(x))))
        return torch.relu(branch + self.shortcut(x))


def se_resnet20():
    """For 32x32 images and 10 classes, with the parameters of `keras_senet.SEResNet20`."""
    widths = [16] * 3 + [32] * 3 + [64] * 3
    units = [
        Unit(before, width, 1 if before == width else 2)
        for before, width in zip([16, *widths], widths, strict=False)
    ]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return nn.Sequential(conv_bn(3, 16, 3), nn.ReLU(), *units, *head)


def create(name):
    """`se_resnet20`, or a network of timm."""
    return se_resnet20() if name == "se_resnet20" else timm.create_model(name)


def take_statistics(model, images):
    """Gives batch normalisation the statistics of some images. With those of a new network, the
    activations of a deep one become so small (denormal) that PyTorch takes many times as long;
    TensorFlow takes such numbers for 0.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    model.eval()


def prepare(
    folder, threads, name, mode, batch, size, depth=None, layout="channels_last", compiled=False
):
    """A function that trains one step or infers once, as `benchmarks.networks.prepare`; eager, or
    by `torch.compile`, which needs a C++ compiler.
    """
    torch.set_num_threads(threads)
    memory_format = {"memory_format": getattr(torch, layout)}
    model = create(name.format(depth)).to(**memory_format).train(mode == "training")
    run = torch.compile(model, dynamic=False) if compiled else model
    images = torch.randn(batch, 3, size, size).to(**memory_format)
    if mode == "inference":
        take_statistics(model, images)

    @torch.inference_mode()
    def infer():
        return run(images)[0, 0].item()

    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    labels = torch.arange(batch) % 10

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"inference": infer, "training": train}[mode]
