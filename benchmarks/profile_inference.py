"""Where the time of one image goes: each kind of operation in TensorFlow's graph, with count and
time.

`python -m benchmarks.profile_inference SEResNet20`, also with `--threads`. The time of an operation
is the least of its calls; what the call takes beyond all of them is TensorFlow's work between
operations.
"""

import argparse
import collections
import tempfile
import time
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

import keras_senet

CALLS = 20  # of many more, the profiler drops operations


def profile(function, images):
    """Seconds of each operation of the graph in each call, by its name."""
    times = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(CALLS):
            function(images)
        tf.profiler.experimental.stop()
        for path in Path(folder).rglob("*.xplane.pb"):
            for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
                names = plane.event_metadata
                for event in (event for line in plane.lines for event in line.events):
                    times[names[event.metadata_id].name].append(event.duration_ps / 1e12)
    # an operation is called "path/in/the/graph:Kind"
    return {
        name: taken
        for name, taken in times.items()
        if ":" in name and "::" not in name and "__" not in name
    }


def least_time(function, images):
    """Seconds of the fastest call."""
    times = []
    for _ in range(4 * CALLS):
        start = time.perf_counter()
        function(images)
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    model = getattr(keras_senet, options.network)(weights=None)
    images = tf.random.stateless_normal((1, *model.input_shape[1:]), (0, 0))
    function = tf.function(lambda images: model(images, training=False)).get_concrete_function(
        images
    )
    whole = least_time(function, images)
    kinds = collections.defaultdict(list)
    for name, taken in profile(function, images).items():
        kind = "SE blocks: " + name.split(":")[1] if "_se" in name else name.split(":")[1]
        kinds[kind].append(min(taken))
    for kind, taken in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        print(f"{kind:45} {len(taken):5} {1e6 * sum(taken):9.1f} us")
    count, inside = sum(map(len, kinds.values())), sum(map(sum, kinds.values()))
    between = (whole - inside) / count
    print(f"{'all operations':45} {count:5} {1e6 * inside:9.1f} us of {1e6 * whole:.1f} us")
    print(f"between operations: {1e6 * between:.2f} us for each")


if __name__ == "__main__":
    main()
