"""The authors' networks from listings of their prototxts: an independent forward computation, and
`.caffemodel` files.

A line of a listing is: type, name, "<-", the inputs, the output's shape, and the settings of
convolutions and poolings.
"""

import re
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

LISTINGS = Path(__file__).parent / "caffe_layers"
IN_PLACE = ("BatchNorm", "ReLU", "Sigmoid", "Dropout")
FACTOR = 999.98  # by which Caffe multiplies a batch normalisation's statistics


class Layer(NamedTuple):
    """A layer; `settings` are k, s, p, g, pool and bias as they are written."""

    kind: str
    name: str
    inputs: list[str]
    shape: tuple[int, ...]
    settings: dict[str, str]

    @property
    def output(self):
        if self.kind in IN_PLACE or (self.kind == "Scale" and len(self.inputs) == 1):
            return self.inputs[0]
        return re.sub(r"_scale$", "/output", self.name) if self.kind == "Scale" else self.name

    def pair(self, setting):
        return tuple(map(int, re.findall(r"\d+", self.settings[setting])))


def read(network):
    """The layers of a listing."""
    pattern = re.compile(r"(\w+) (\S+) <- (\S*) \(([\d, ]*)\) tr=\d+ mac=\d+ ?(.*)")
    layers = []
    for line in (LISTINGS / f"{network}.txt").read_text().splitlines():
        kind, name, inputs, shape, rest = pattern.fullmatch(
            re.sub("^Input data <- ", "Input data <- - ", line)
        ).groups()
        settings = dict(re.findall(r"(\w+)=(\([^)]*\)|\S+)", rest))
        layers.append(
            Layer(
                kind, name, inputs.split(","), tuple(map(int, re.findall(r"\d+", shape))), settings
            )
        )
    return layers


class Network:
    """Random blobs for each layer of a listing, with statistics taken from random images."""

    def __init__(self, network, seed=0):
        torch.manual_seed(seed)
        self.layers = read(network)
        self.blobs = {}
        self.run(torch.randn(4, 3, 224, 224), settle=True)

    def run(self, images, settle=False):
        """The class probabilities of images (N, 3, H, W) in the order BGR, in the authors' class
        order.
        """
        values = {"data": images}
        with torch.no_grad():
            for layer in self.layers[1:]:
                inputs = [values[name] for name in layer.inputs]
                if settle:
                    self.blobs[layer.name] = random_blobs(layer, inputs[0])
                values[layer.output] = COMPUTE[layer.kind](layer, self.blobs[layer.name], *inputs)
                assert (
                    layer.output == layer.name
                    or tuple(values[layer.output].shape[1:]) == layer.shape
                    or settle
                )
        return values[self.layers[-1].name]

    def save(self, path):
        """A `.caffemodel` file, written with Caffe's own types of fields."""
        net = messages()["NetParameter"](name="test")
        for layer in self.layers:
            described = net.layer.add(name=layer.name, type=layer.kind)
            for blob in self.blobs.get(layer.name, []):
                written = described.blobs.add()
                written.shape.dim.extend(blob.shape)
                written.data.extend(blob.ravel().tolist())
        path.write_bytes(net.SerializeToString())


def random_blobs(layer, x):
    channels = layer.shape[0]
    if layer.kind == "Convolution":
        groups = int(layer.settings["g"])
        kernel = torch.randn(channels, x.shape[1] // groups, *layer.pair("k"))
        kernel *= (2 / kernel[0].numel()) ** 0.5
        return (
            [kernel, 0.1 * torch.randn(channels)] if layer.settings["bias"] == "True" else [kernel]
        )
    if layer.kind == "BatchNorm":
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        mean += 0.1 * torch.randn_like(mean) * variance.sqrt()
        return [
            FACTOR * mean,
            FACTOR * variance * (0.8 + 0.4 * torch.rand_like(mean)),
            torch.tensor([FACTOR]),
        ]
    if layer.kind == "Scale" and len(layer.inputs) == 1:
        last = (
            "increase" in layer.name
        )  # a residual branch adds a little, or rounding grows with depth
        return [0.2 + (0.1 if last else 0.8) * torch.rand(channels), 0.1 * torch.randn(channels)]
    if layer.kind == "InnerProduct":
        return [torch.randn(channels, x.shape[1]) / x.shape[1] ** 0.5, 0.1 * torch.randn(channels)]
    return []


def convolution(layer, blobs, x):
    bias = blobs[1] if len(blobs) > 1 else None
    return F.conv2d(
        x, blobs[0], bias, layer.pair("s"), layer.pair("p"), groups=int(layer.settings["g"])
    )


def batch_norm(layer, blobs, x):
    mean, variance, factor = blobs
    return F.batch_norm(x, mean / factor, variance / factor, eps=float(layer.settings["eps"]))


def pooling(layer, _, x):
    if layer.settings["k"] == "global":
        return x.mean((2, 3), keepdim=True)
    pool = {"MAX": F.max_pool2d, "AVE": F.avg_pool2d}[layer.settings["pool"]]
    return pool(x, layer.pair("k"), layer.pair("s"), layer.pair("p"), ceil_mode=True)


def scale(_, blobs, x, gate=None):
    if gate is not None:
        return x * gate[:, :, None, None]
    return x * blobs[0][:, None, None] + blobs[1][:, None, None]


COMPUTE = {
    "Convolution": convolution,
    "BatchNorm": batch_norm,
    "Scale": scale,
    "ReLU": lambda layer, blobs, x: F.relu(x),
    "Pooling": pooling,
    "Sigmoid": lambda layer, blobs, x: torch.sigmoid(x),
    "Axpy": lambda layer, blobs, gate, x, y: gate * x + y,
    "Reshape": lambda layer, blobs, x: x.flatten(1),
    "Concat": lambda layer, blobs, *x: torch.cat(x, 1),
    "Dropout": lambda layer, blobs, x: x,
    "InnerProduct": lambda layer, blobs, x: F.linear(x.flatten(1), *blobs),
    "Softmax": lambda layer, blobs, x: F.softmax(x, 1),
}

# caffe.proto: field, number, type, of each message
PROTO = {
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [("shape", 7, "BlobShape", False), ("data", 5, "float", True)],
    "LayerParameter": [
        ("name", 1, "string", False),
        ("type", 2, "string", False),
        ("blobs", 7, "BlobProto", True),
    ],
    "NetParameter": [("name", 1, "string", False), ("layer", 100, "LayerParameter", True)],
}


def messages():
    """Classes of Caffe's messages."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in PROTO.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            added = described.field.add(name=name, number=number, label=label)
            if kind in PROTO:
                added.type, added.type_name = field.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
                added.options.packed = repeated
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in PROTO
    }
