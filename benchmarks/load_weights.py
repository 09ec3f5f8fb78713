"""Loading SENet-154 from files of 440 MiB in the formats that are published: random weights, saved
by timm, and in the authors' layout.
"""

import sys
from pathlib import Path

from benchmarks.side import ROOT, make_once

FILES = ("zip.pth", "stream.pth", "legacy.safetensors", "own.weights.h5", "authors.caffemodel")


def write_all(folder):
    """The file of each kind of the same network, in the names and layout of where it comes from."""
    sys.path[:0] = [str(ROOT / "tests")]
    import foreign

    import keras_senet
    from benchmarks.torch_networks import timm, torch
    from keras_senet import save_weights

    folder = Path(folder)
    network = timm.create_model("legacy_senet154")
    torch.save(network.state_dict(), folder / "zip.pth")
    torch.save(network.state_dict(), folder / "stream.pth", _use_new_zipfile_serialization=False)
    from safetensors.torch import save_file

    save_file(network.state_dict(), folder / "legacy.safetensors", metadata={"format": "pt"})
    model = keras_senet.SENet154(weights=folder / "zip.pth")
    save_weights(model, folder / "own.weights.h5")
    stems = {f"stem_conv{i}": f"conv1_{i}/3x3{'_s2' if i == 1 else ''}" for i in (1, 2, 3)}
    layers = foreign.caffe_layers(model, stems)
    (folder / "authors.caffemodel").write_bytes(foreign.caffemodel(layers))


def prepare(folder, threads, source, file):
    """A function that makes the network with the weights of a file."""
    make_once(Path(folder, FILES[-1]), ".load_weights:write_all", folder)
    path = str(Path(folder, file))
    if source == "timm":
        from benchmarks.torch_networks import timm

        return lambda: timm.create_model("legacy_senet154", checkpoint_path=path)
    import keras_senet

    return lambda: keras_senet.SENet154(weights=path)
