"""Loading SENet-154 from the `.pth` file of 440 MiB that is published, by timm and by keras_senet;
peak memory of both.

Needs the extra `peers` and timm (CONTRIBUTING.md). The weights are random, saved by timm in the
published format.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "peers")]

OURS = """
import sys, threading, psutil, keras_senet
keras_senet.SEResNet18(weights=None, input_shape=(32, 32, 3), include_top=False)
process, peaks, done = psutil.Process(), [], threading.Event()
before = process.memory_info().rss

def watch():
    while not done.wait(0.005):
        peaks.append(process.memory_info().rss)

thread = threading.Thread(target=watch)
thread.start()
keras_senet.SENet154(weights=sys.argv[1])
done.set()
thread.join()
print((max(peaks) - before) / 2**20)
"""


def write_all(folder):
    """The file of each kind of the same network, in the names and layout of where it comes from."""
    import foreign
    import timm_networks

    import keras_senet

    network = timm_networks.timm.create_model("legacy_senet154")
    pth = folder / "zip.pth"
    timm_networks.save(network, pth)
    timm_networks.torch.save(
        network.state_dict(), folder / "stream.pth", _use_new_zipfile_serialization=False
    )
    timm_networks.save(network, folder / "legacy.safetensors")
    model = keras_senet.SENet154(weights=pth)
    keras_senet.save_weights(model, folder / "own.weights.h5")
    stems = {f"stem_conv{i}": f"conv1_{i}/3x3{'_s2' if i == 1 else ''}" for i in (1, 2, 3)}
    layers = foreign.caffe_layers(model, stems)
    (folder / "authors.caffemodel").write_bytes(foreign.caffemodel(layers))
    return pth


def main():
    from ratio import measure

    import keras_senet

    with tempfile.TemporaryDirectory() as folder:
        pth = write_all(Path(folder))
        print("peak memory of loading, over that before, in a process of its own:")
        for path in sorted(Path(folder).iterdir()):
            run = subprocess.run(
                [sys.executable, "-c", OURS, path], capture_output=True, check=True
            )
            times = float(run.stdout) * 2**20 / path.stat().st_size
            print(
                f"{path.name:20} {path.stat().st_size / 2**20:.0f} MiB, "
                f"{float(run.stdout):.0f} MiB, {times:.2f} times"
            )

        def ours():
            keras_senet.SENet154(weights=pth)

        def theirs():
            timm_networks.timm.create_model("legacy_senet154", checkpoint_path=str(pth))

        import timm_networks

        measure(("keras_senet", "timm"), (ours, theirs), rounds=5)


if __name__ == "__main__":
    main()
