"""Loading SENet-154 from the `.pth` file of 440 MiB that is published, by timm and by keras_senet; peak memory of both.

Needs the extra `peers` and timm (CONTRIBUTING.md). The weights are random, saved by timm in the published format.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "peers")]

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


def main():
    import timm_networks
    from ratio import measure

    import keras_senet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "legacy_senet154.pth"
        timm_networks.save(timm_networks.timm.create_model("legacy_senet154"), path)
        print(f"{path.stat().st_size / 2**20:.0f} MiB; peak memory here, in a process of its own, over the start:")
        grown = float(subprocess.run([sys.executable, "-c", OURS, path], capture_output=True, check=True).stdout)
        print(f"{grown:.0f} MiB, {grown * 2**20 / path.stat().st_size:.2f} times the file")

        def ours():
            keras_senet.SENet154(weights=path)

        def theirs():
            timm_networks.timm.create_model("legacy_senet154", checkpoint_path=str(path))

        measure(("keras_senet", "timm"), (ours, theirs), rounds=5)


if __name__ == "__main__":
    main()
