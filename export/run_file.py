"""Runs an exported file in a process of its own: python run_file.py KIND PATH FOLDER [before].

FOLDER has `images.npz`, a batch of images of each size, and gets `measured.json` and `outputs.npz`:
arrays called SIGNATURE/OUTPUT/BATCH. The file's own signature is called KIND. With `before` there
is one more, `before`: what each output that is a softmax or a sigmoid is computed from. If FOLDER
has `evaluated.npy`, images of any number type, there is `evaluation`: the classes that the file
predicts for them, and the `indices` of those that there was time for. Of a file with several inputs
FOLDER has `inputs.npz` instead, arrays called SIGNATURE/CALL/INPUT. Nothing of
keras_senet is imported here, which is part of the proof: a file must run where only its runtime is.
"""

import json
import os
import resource
import statistics
import sys
import time
from typing import Any

import numpy as np

BATCHES = {"savedmodel": 16, "tflite": 1, "onnx": 16}  # images at once
EVALUATION_SECONDS = 120
QUANTIZED = (np.int8, np.uint8, np.int16)  # of TFLite's tensors


def load_saved_model(path) -> Any:
    """The SavedModel in a folder."""
    import tensorflow as tf

    return tf.saved_model.load(path)


def call_saved_model(loaded):
    """The calls of a loaded SavedModel, by the signature's name: each is called with arrays by the
    input's name and returns arrays by the output's.
    """
    import tensorflow as tf

    def caller(signature):
        def call(**inputs):
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            return (loaded, _to_numpy(signature(**tensors)))[1]  # it must outlive its signatures

        return call

    return {name: caller(signature) for name, signature in loaded.signatures.items()}


def _to_numpy(outputs):
    return {name: each.numpy() for name, each in outputs.items()}


def call_tflite(path):
    """The same of a TFLite file's first signature, by LiteRT, in float32 where the file has
    quantised numbers.
    """
    interpreter = _load_interpreter(model_path=path)
    runner = interpreter.get_signature_runner()
    given, made = runner.get_input_details(), runner.get_output_details()

    def call(**inputs):
        quantized = {name: _quantize(value, given[name]) for name, value in inputs.items()}
        outputs = (interpreter, runner(**quantized))[1]
        return {name: _dequantize(value, made[name]) for name, value in outputs.items()}

    return {"serving_default": call}


def _load_interpreter(**content):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(**content, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    return interpreter


def call_onnx(path_or_bytes):
    """The same of an ONNX file or its bytes, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path_or_bytes, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    run = lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))  # noqa: E731
    return {"serving_default": run}


def image_runs(kind, loaded):
    """By the signature's name, what maps images to the outputs that are floats, by name: as they
    are, and a SavedModel from images as uint8 and as encoded ones.
    """
    calls = CALLS[kind](loaded)

    def runner(name, prepare):
        def run(images):
            outputs = calls[name](images=prepare(images))
            return {name: each for name, each in outputs.items() if each.dtype.kind == "f"}

        return run

    ways = {"serving_default": np.asarray, "serve_uint8": _as_uint8, "serve_jpeg": _as_png}
    runs = {name: runner(name, prepare) for name, prepare in ways.items() if name in calls}
    return {kind: runs.pop("serving_default"), **runs}


def _as_uint8(images):
    return np.clip(np.round(images), 0, 255).astype("uint8")


def _as_png(images):
    import tensorflow as tf

    images = images if images.shape[-1] in (1, 3) else images.transpose(0, 2, 3, 1)
    return [tf.io.encode_png(image).numpy() for image in _as_uint8(images)]


# Functions of each kind: what is loaded -> what maps images to outputs before the last activation.


def before_saved_model(loaded):
    """By the signature's frozen graph, cut there."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = loaded.signatures["serving_default"]
    frozen = convert_variables_to_constants_v2(signature)
    content = frozen.graph.as_graph_def()
    whole = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(content, name=""), [])

    def before(tensor):
        while tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        return tensor.op.inputs[0] if tensor.op.type in ("Softmax", "Sigmoid") else None

    # The outputs are in the order of their names.
    results = zip(sorted(signature.structured_outputs), frozen.outputs, strict=True)
    found = {name: before(whole.graph.get_tensor_by_name(tensor.name)) for name, tensor in results}
    found = {name: tensor for name, tensor in found.items() if tensor is not None}
    given = next(each.name for each in frozen.inputs if each.dtype == tf.float32)
    cut = whole.prune([given], found)
    return lambda images: _to_numpy(cut(tf.constant(images)))


def before_tflite(path):
    """By a copy whose outputs are the inputs of those operations."""
    from ai_edge_litert import schema_py_generated as schema

    with open(path, "rb") as file:
        content = bytearray(file.read())
    model: Any = schema.Model.GetRootAs(content)
    graph, signature = model.Subgraphs(0), model.SignatureDefs(0)
    activations = (schema.BuiltinOperator.SOFTMAX, schema.BuiltinOperator.LOGISTIC)
    before = {
        operator.Outputs(0): operator.Inputs(0)
        for operator in map(graph.Operators, range(graph.OperatorsLength()))
        if model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() in activations
    }
    names = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    names = {each.TensorIndex(): each.Name().decode() for each in names}
    results = graph.OutputsAsNumpy()  # a view: the indices are changed in the bytes
    assert isinstance(results, np.ndarray)
    found = {names[tensor]: before[tensor] for tensor in results if tensor in before}
    results[:] = [before.get(tensor, tensor) for tensor in results]
    interpreter = _load_interpreter(model_content=bytes(content))
    (given,) = interpreter.get_input_details()

    def run(images):
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return {name: interpreter.get_tensor(tensor) for name, tensor in found.items()}

    return run


def _quantize(images, details):
    if details["dtype"] not in QUANTIZED:
        return images
    scale, zero = details["quantization"]
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(images / scale + zero), limits.min, limits.max).astype(details["dtype"])


def _dequantize(outputs, details):
    if details["dtype"] not in QUANTIZED:
        return outputs
    scale, zero = details["quantization"]
    return (outputs.astype("float32") - zero) * np.float32(scale)


def before_onnx(path):
    """By a copy whose outputs are the inputs of those operations."""
    import onnx
    from onnx import TensorProto, helper

    proto = onnx.load(path)
    producers = {name: node for node in proto.graph.node for name in node.output}
    names = [output.name for output in proto.graph.output]
    del proto.graph.output[:]
    for name in names:
        producer = producers[name]
        while producer.op_type in ("Cast", "Identity"):
            producer = producers.get(producer.input[0], producer.__class__())
        if producer.op_type in ("Softmax", "Sigmoid"):
            # In float16 the tensor has another type; a name that the model does not use cannot
            # clash.
            result = f"before: {name}"
            proto.graph.node.append(
                helper.make_node("Cast", [producer.input[0]], [result], to=TensorProto.FLOAT)
            )
            proto.graph.output.append(
                helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
            )
    if not proto.graph.output:
        return lambda _: {}
    call = call_onnx(proto.SerializeToString())["serving_default"]
    return lambda images: {
        name.removeprefix("before: "): value for name, value in call(images=images).items()
    }


# A SavedModel is loaded once for all that it is asked; the others are their paths.
LOADS = {"savedmodel": load_saved_model, "tflite": str, "onnx": str}
CALLS = {"savedmodel": call_saved_model, "tflite": call_tflite, "onnx": call_onnx}
BEFORE = {"savedmodel": before_saved_model, "tflite": before_tflite, "onnx": before_onnx}


def open_calls(kind, path):
    """The calls of the file at a path, by the signature's name; see `call_saved_model`."""
    return CALLS[kind](LOADS[kind](path))


def latency_ms(run, image, seconds=1.0, least=3, most=50):
    """The median over `least` runs, and more while `seconds` last."""
    times = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def predict_top1(run, images, milliseconds, batch=16):
    """(the top-1 classes by a file's only output, the indices of these images): of all, or as many
    as `EVALUATION_SECONDS` allow, evenly spread. The class is -1 where an output is not finite.
    """
    most = max(1, int(1000 * EVALUATION_SECONDS / milliseconds))
    indices = np.unique(np.linspace(0, len(images) - 1, min(len(images), most)).astype("int64"))
    classes = []
    for start in range(0, len(indices), batch):
        found = run(images[indices[start : start + batch]].astype("float32"))
        outputs = found["predictions"]
        classes.append(np.where(np.isfinite(outputs).all(-1), outputs.argmax(-1), -1))
    return np.concatenate(classes), indices


def peak_memory():
    """Bytes. Linux' getrusage would count the parent's memory, from before this was loaded, too."""
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def run_images(kind, path, folder, *before):
    """Runs the file on the folder's images, times it, and, if asked, runs it cut before its end."""
    loaded, batch = LOADS[kind](path), BATCHES[kind]
    runs = image_runs(kind, loaded)
    with np.load(f"{folder}/images.npz") as archive:
        batches = [archive[name] for name in archive.files]
    outputs = {}

    def add(signature, run):
        for i, images in enumerate(batches):
            found = [run(images[at : at + batch]) for at in range(0, len(images), batch)]
            for name in found[0]:
                arrays = [each[name] for each in found]
                outputs[f"{signature}/{name}/{i}"] = np.concatenate(arrays)

    for signature, run in runs.items():
        add(signature, run)
    measured = {"latency_ms": latency_ms(runs[kind], batches[0][:1]), "peak_memory": peak_memory()}
    if before:
        add("before", BEFORE[kind](loaded))
    if os.path.exists(f"{folder}/evaluated.npy"):
        images = np.load(f"{folder}/evaluated.npy", mmap_mode="r")
        classes, indices = predict_top1(runs[kind], images, measured["latency_ms"], batch)
        outputs |= {"evaluation/classes/0": classes, "evaluation/indices/0": indices}
    _save(folder, outputs, measured)


def run_calls(kind, path, folder):
    """Makes the calls of the folder's `inputs.npz`, and times the first."""
    signatures, calls, outputs = open_calls(kind, path), {}, {}
    with np.load(f"{folder}/inputs.npz") as archive:
        for key in archive.files:
            signature, number, name = key.split("/")
            calls.setdefault((signature, number), {})[name] = archive[key]
    for (signature, number), inputs in calls.items():
        for name, value in signatures[signature](**inputs).items():
            outputs[f"{signature}/{name}/{number}"] = value
    (signature, _), inputs = next(iter(calls.items()))
    milliseconds = latency_ms(lambda inputs: signatures[signature](**inputs), inputs)
    _save(folder, outputs, {"latency_ms": milliseconds, "peak_memory": peak_memory()})


def _save(folder, outputs, measured):
    np.savez(f"{folder}/outputs.npz", **outputs)
    with open(f"{folder}/measured.json", "w") as file:
        json.dump(measured, file)


def run(kind, path, folder, *before):
    """Runs the file on what the folder has."""
    if os.path.exists(f"{folder}/inputs.npz"):
        run_calls(kind, path, folder)
    else:
        run_images(kind, path, folder, *before)


if __name__ == "__main__":
    run(*sys.argv[1:])
