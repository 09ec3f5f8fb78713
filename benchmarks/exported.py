"""Exported files in their runtimes, and the time that exporting takes."""

import warnings
from pathlib import Path

from benchmarks.side import make_once


def calibrated(name, size, plain):
    """A network with the statistics of the images that exports compare on: else its outputs are so
    large that rounding decides the class.
    """
    import keras

    from benchmarks import networks
    from keras_senet.export.inputs import synthetic_images

    keras.utils.set_random_seed(0)
    model = networks.keras_senet(name, size, plain)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(synthetic_images(model, None), training=True)
    return model


def write_ours(path, name, size, plain, kind, layout, quantization):
    """`plain` is "True" or "False", `quantization` may be "None": it is called by a command."""
    import numpy as np

    from keras_senet import export

    model = calibrated(name, int(size), plain == "True")
    options = {"layout": layout} if kind == "onnx" else {}
    if quantization != "None":
        images = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:]))
        options["representative_images"] = images.astype("float32")
        options["quantization"] = quantization
    getattr(export, f"to_{kind}")(model, path, **options)


def write_timm(path, name, size, *_):
    """timm's network in an ONNX file, by torch's exporter that needs nothing beside torch."""
    from benchmarks.torch_networks import create, torch

    model, axes = create(name).eval(), {"images": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            *(model, torch.zeros(1, 3, int(size), int(size)), str(path)),
            input_names=["images"],
            dynamic_axes=axes,
            opset_version=18,
            dynamo=False,
        )


def prepare(
    folder,
    threads,
    runtime,
    name,
    batch,
    size,
    writer="write_ours",
    plain=False,
    layout="nhwc",
    quantization=None,
):
    """A function that runs the file on a batch. The file is written in a process of its own."""
    import numpy as np

    kind = "tflite" if runtime == "litert" else "onnx"
    given = name, size, plain, kind, layout, quantization
    path = Path(folder, f"{'-'.join(map(str, (writer, *given)))}.{kind}")
    make_once(path, f".exported:{writer}", path, *given)
    shape = (batch, 3, size, size) if layout == "nchw" else (batch, size, size, 3)
    images = np.random.default_rng(0).normal(size=shape).astype("float32")
    return globals()[runtime](path, threads, images)


def onnxruntime(path, threads, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would wait for the next run by spinning, on the cores that the others then run on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return lambda: session.run(None, {name: images})


def openvino(path, threads, images):
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape(list(images.shape))
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # by default bfloat16 where the CPU has it
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([images])


def litert(path, threads, images):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    (given,) = interpreter.get_input_details()
    if tuple(given["shape"]) != images.shape:
        interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    return interpreter.invoke


def prepare_export(folder, threads, source, name, size, kind="onnx"):
    """A function that exports: ours with the run of the file and the comparison, Keras and torch
    only write.
    """
    path = str(Path(folder, f"file-{source}.{kind}"))
    if source == "timm":
        return lambda: write_timm(path, name, size)
    if source == "keras.applications":
        import numpy as np

        from benchmarks import networks

        peer = networks.keras_applications(name, size, True)
        peer(np.zeros((1, size, size, 3)))  # Keras exports what has been called
        return lambda: peer.export(path, format=kind, verbose=False)
    from keras_senet import export

    model, write = calibrated(name, size, False), getattr(export, f"to_{kind}")
    return lambda: write(model, path, overwrite=True)
