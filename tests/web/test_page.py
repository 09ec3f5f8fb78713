"""export/web in Chromium: its outputs are those of ONNX Runtime in Python, and it says what
it refuses.
"""

import base64
import functools
import http.server
import io
import json
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import chromium
import numpy as np
import onnx
import onnxruntime
import pytest
from gated import with_random_weights
from onnx import TensorProto, helper, numpy_helper
from oracle_weights import make_detector
from PIL import Image
from tiny import TINY

from keras_senet import application, export
from keras_senet.export.detector import exporting
from keras_senet.export.detector.onnx import write_onnx as write_detector
from keras_senet.imagenet import imagenet_classes
from keras_senet.preprocessing import Preprocessing

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "export" / "web"
DISTS = (PAGE / "node_modules/onnxruntime-web/dist", ROOT / "node_modules/onnxruntime-web/dist")
# 32 pixels are cropped to 28: pictures of that short side are not resized, and the browser's values
# are the file's.
PREPROCESSING = Preprocessing((120.0, 115.0, 100.0), (58.0, 57.0, 56.0), size=28)
NAMES = [
    "tench",
    "goldfish",
    "great white shark",
    "tiger shark",
    "hammerhead",
    "electric ray",
    "stingray",
]
BLOCKS = {"stage1_block1_se": 8, "stage1_block2_se": 6, "stage2_block1_se": 600}  # channels
# Kinds of files, and how far two runtimes may be apart: in 8 bits a rounding of a gate or
# probability is 1/256.
EXPORTED = {"float32": 1e-5, "float16": 1e-3, "int8": 0.005}


# Networks of the exporter's contract, and pictures


def network(layout="nhwc", blocks=BLOCKS, softmax=True, **properties):
    """The bytes of an ONNX file as `to_onnx(..., gates=True)` writes them, with random weights.

    `properties` are values of its metadata beside the usual ones; None leaves one out.
    """
    random = np.random.default_rng(0)
    nodes, weights, outputs = [], [], []

    def constant(value, name):
        weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(operator, *inputs, output=None, **attributes):
        output = output or f"{operator}_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def drawn(shape, scale):
        return constant(scale * random.standard_normal(shape), f"weights_{len(weights)}")

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    x = node("Transpose", "images", perm=(0, 3, 1, 2)) if layout == "nhwc" else "images"
    x = node("Sub", x, constant(np.reshape(PREPROCESSING.mean, (3, 1, 1)), "mean"))
    x = node("Div", x, constant(np.reshape(PREPROCESSING.std, (3, 1, 1)), "std"))
    width = 3
    for name, channels in blocks.items():
        x = node(
            "Relu",
            node("Conv", x, drawn((channels, width, 3, 3), 0.4), strides=(2, 2), pads=(1, 1, 1, 1)),
        )
        squeezed = node("GlobalAveragePool", x)
        gate = node(
            "Sigmoid", node("Conv", squeezed, drawn((channels, channels, 1, 1), 2 / channels**0.5))
        )
        node("Flatten", gate, output=f"gates/{name}")
        outputs.append(value(f"gates/{name}", channels))
        x, width = node("Mul", x, gate), channels
    x = node("Flatten", node("GlobalAveragePool", x))
    x = node("MatMul", x, drawn((width, len(NAMES)), 0.2))
    node("Softmax" if softmax else "Identity", x, output="predictions")

    side = PREPROCESSING.size
    shape = (side, side, 3) if layout == "nhwc" else (3, side, side)
    outputs = [value("predictions", len(NAMES)), *outputs]
    graph = helper.make_graph(nodes, "network", [value("images", *shape)], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    usual = {
        "source": "keras_senet, a test",
        "preprocessing": json.dumps(vars(PREPROCESSING)),
        "class_names": json.dumps(NAMES),
    }
    helper.set_model_props(model, {k: v for k, v in (usual | properties).items() if v is not None})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def foreign():
    """An ONNX file whose input is another one."""
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5])
        for name in ("data", "predictions")
    )
    graph = helper.make_graph(
        [helper.make_node("Relu", ["data"], ["predictions"])], "foreign", [given], [made]
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def picture(height=32, width=45, seed=0):
    """Coloured squares, (height, width, 3) of 0..255."""
    squares = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8
    )
    return np.kron(squares, np.ones((8, 8, 1), np.uint8))[:height, :width]


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def run(content, pixels, layout="nhwc", preprocessing=PREPROCESSING):
    """What ONNX Runtime says in Python: {output: values} for one picture, cropped as the package
    crops it.
    """
    images = preprocessing.crop(pixels).numpy()[None]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(
        names, {"images": images if layout == "nhwc" else images.transpose(0, 3, 1, 2)}
    )
    return {name: value[0] for name, value in zip(names, values, strict=True)}


# The page in the browser


class Site(http.server.SimpleHTTPRequestHandler):
    """The page's folder, ONNX Runtime Web under /ort/ and `files` by name under /files/."""

    def __init__(self, *arguments, dist, files):
        self.dist, self.files = dist, files
        super().__init__(*arguments, directory=PAGE)

    def translate_path(self, path):
        path = path.partition("?")[0]
        for prefix, folder in (("/ort/", self.dist), ("/files/", self.files)):
            if path.startswith(prefix):
                return str(folder / path.removeprefix(prefix))
        return super().translate_path(path)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def dist():
    given = os.environ.get("ORT_WEB_DIST")
    for folder in [Path(given)] if given else DISTS:
        if (folder / "ort.wasm.min.mjs").is_file():
            return folder
    return chromium.missing(
        "needs ONNX Runtime Web: `npm install --prefix export/web`, or its dist folder in "
        "ORT_WEB_DIST"
    )


@pytest.fixture(scope="module")
def address(dist, files):
    handler = functools.partial(Site, dist=dist, files=files)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as browser:
        yield browser


class Page:
    """The page as somebody uses it."""

    def __init__(self, page):
        self.page = page
        self.locator = page.locator

    def settle(self):
        self.page.wait_for_selector("body[aria-busy=false]")

    def drop(self, name, content, kind="", onto="body"):
        self.hand_over("drop", name, content, kind, onto)

    def hand_over(self, event, name, content, kind="", onto="body"):
        """A drop or paste event with one file."""
        script = """(node, [event, name, kind, content]) => {
            const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, {type: kind}));
            const options = {bubbles: true, cancelable: true};
            Object.assign(options, {dataTransfer: data, clipboardData: data});
            node.dispatchEvent(new (event === "drop" ? DragEvent : ClipboardEvent)(event, options));
        }"""
        self.locator(onto).evaluate(script, [event, name, kind, base64.b64encode(content).decode()])
        self.settle()

    def choose(self, field, name, content):
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.locator(field).set_input_files(file)
        self.settle()

    @property
    def message(self):
        return self.locator("#message").text_content()

    @property
    def results(self):
        """[(class, its name, value), ...] as listed."""
        rows = self.locator("#results li").all()
        names = [row.locator(".name").text_content() for row in rows]
        return [
            (int(row.get_attribute("data-index")), name, float(row.get_attribute("data-value")))
            for row, name in zip(rows, names, strict=True)
        ]

    @property
    def gates(self):
        """{layer: {"mean", "lowest", "highest"}} as listed."""
        return {
            row.get_attribute("data-layer"): {
                key: float(row.get_attribute(f"data-{key}"))
                for key in ("mean", "lowest", "highest")
            }
            for row in self.locator(".gate").all()
        }

    def bars(self, layer, part="average"):
        """The heights of a chart's bars, 0..1."""
        path = self.locator(f'[data-layer="{layer}"] path.{part}').get_attribute("d")
        return [1 - float(top) / 100 for top in re.findall(r"M\S+ \S+V([\d.]+)h", path)]


@pytest.fixture
def visit(browser, address):
    """visit(query, without) -> Page; nothing on it may break its policy, fail unseen or ask another
    host.

    `without` is a pattern of addresses that the server does not have.
    """
    context = browser.new_context(base_url=address)
    wrong = []

    def watch(message):
        if "Content Security Policy" in message.text:
            wrong.append(message.text)

    def visit(query="", without=None):
        page = context.new_page()
        if without:
            page.route(without, lambda route: route.fulfill(status=404))
        page.set_default_timeout(30_000)
        page.on("console", watch)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "blob:")) or wrong.append(request.url),
        )
        page.goto(f"/index.html{query}")
        visited = Page(page)
        visited.settle()
        return visited

    yield visit
    context.close()
    assert wrong == []


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_a_dropped_picture_has_the_answer_of_python(visit, layout):
    content, pixels = network(layout), picture()
    expected = run(content, pixels, layout)["predictions"]
    page = visit()
    page.drop("network.onnx", content)
    page.drop("picture.png", png(pixels), "image/png")
    assert page.message == ""
    order = np.argsort(-expected)[:5]
    assert [(index, name) for index, name, _ in page.results] == [(i, NAMES[i]) for i in order]
    np.testing.assert_allclose([value for _, _, value in page.results], expected[order], atol=1e-4)
    first = page.locator("#results li").first
    assert f"{100 * expected[order[0]]:.1f} %" in first.text_content()
    shown = first.locator(".bar span").evaluate(
        "(bar) => bar.offsetWidth / bar.parentNode.offsetWidth"
    )
    assert shown == pytest.approx(expected[order[0]], abs=0.02)
    assert NAMES[order[0]] in page.locator("#status").text_content()


def test_the_gates_are_those_of_python(visit):
    content, pixels = network(), picture(seed=1)
    expected = {
        name[6:]: value for name, value in run(content, pixels).items() if name.startswith("gates/")
    }
    page = visit()
    page.drop("network.onnx", content)
    page.drop("picture.png", png(pixels), "image/png")
    assert list(page.gates) == list(BLOCKS)
    for name, shown in page.gates.items():
        values = expected[name]
        wanted = [values.mean(), values.min(), values.max()]
        np.testing.assert_allclose(
            [shown["mean"], shown["lowest"], shown["highest"]], wanted, atol=1e-4
        )
        text = page.locator(f'[data-layer="{name}"] .mean').text_content()
        assert float(text.removeprefix("mean ")) == pytest.approx(values.mean(), abs=6e-4)
    stages = {
        stage.get_attribute("data-stage"): stage.locator(".gate").count()
        for stage in page.locator(".stage").all()
    }
    assert stages == {"stage1": 2, "stage2": 1}

    few, many = expected["stage1_block1_se"], expected["stage2_block1_se"]
    assert np.ptp(few) > 0.1
    np.testing.assert_allclose(page.bars("stage1_block1_se"), few, atol=1e-4)
    np.testing.assert_allclose(
        page.bars("stage2_block1_se"), many.reshape(200, 3).mean(1), atol=1e-4
    )
    np.testing.assert_allclose(
        page.bars("stage2_block1_se", "highest"), many.reshape(200, 3).max(1), atol=1e-4
    )
    assert (
        "600 channels, 3 to a bar"
        in page.locator("[data-layer=stage2_block1_se] small").first.text_content()
    )

    page.locator("[value=sorted]").check()
    np.testing.assert_allclose(page.bars("stage1_block1_se"), np.sort(few)[::-1], atol=1e-4)
    many = np.sort(many)[::-1].reshape(200, 3)
    np.testing.assert_allclose(page.bars("stage2_block1_se"), many.mean(1), atol=1e-4)


class Exported(NamedTuple):
    """A file of `to_onnx` with gates, its normalisation, and how far two runtimes may be apart in
    its outputs.
    """

    content: bytes
    preprocessing: Preprocessing
    tolerance: float


@pytest.fixture(scope="module", params=EXPORTED)
def exported(request, files):
    kind = request.param
    model = with_random_weights(
        application(TINY["bottleneck"].spec, name="tiny", input_size=32)(weights=None)
    )
    path, preprocessing = files / f"{kind}.onnx", model.preprocessing
    calibration = np.stack([preprocessing.crop(picture(seed=seed)) for seed in range(4)])
    export.to_onnx(
        model,
        path,
        quantization=None if kind == "float32" else kind,
        representative_images=calibration if kind == "int8" else None,
        gates=True,
        preprocessing=preprocessing,
        class_names=[found.name for found in imagenet_classes()],
    )
    return Exported(path.read_bytes(), preprocessing, EXPORTED[kind])


def test_a_file_of_the_exporter_has_the_answer_and_the_gates_of_python(visit, exported):
    pixels, near = picture(seed=9), {"rtol": 0, "atol": exported.tolerance}
    predictions, *gates = run(
        exported.content, pixels, preprocessing=exported.preprocessing
    ).items()
    page = visit()
    page.drop("network.onnx", exported.content)
    page.drop("picture.png", png(pixels), "image/png")
    assert page.message == ""

    expected = predictions[1]
    indices, names, values = zip(*page.results, strict=True)
    assert indices[0] == expected.argmax()
    assert list(names) == [imagenet_classes()[index].name for index in indices]
    np.testing.assert_allclose(values, expected[list(indices)], **near)
    np.testing.assert_allclose(
        values, np.sort(expected)[::-1][:5], **near
    )  # in 8 bits some are equal, in any order
    assert f"{100 * values[0]:.1f} %" in page.locator("#results").text_content()
    assert page.locator("#results-note").is_hidden()

    assert [f"gates/{layer}" for layer in page.gates] == [name for name, _ in gates]
    for (layer, shown), (_, gate) in zip(page.gates.items(), gates, strict=True):
        assert np.ptp(gate) > 0.5
        wanted = {"mean": gate.mean(), "lowest": gate.min(), "highest": gate.max()}
        assert shown == pytest.approx(wanted, rel=0, abs=exported.tolerance)
        np.testing.assert_allclose(page.bars(layer), gate.reshape(256, -1).mean(1), **near)


@pytest.mark.parametrize("gate", ["Tanh", "Relu"])
def test_gates_outside_of_0_to_1_widen_their_scale(visit, gate):
    model = onnx.load_from_string(network(blocks={"stage1_block1_se": 8}))
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = gate
    content, pixels = model.SerializeToString(), picture()
    expected = run(content, pixels)["gates/stage1_block1_se"]
    low, high = min(0, expected.min()), max(1, expected.max())
    assert high - low > 1.1
    page = visit()
    page.drop("network.onnx", content)
    page.drop("picture.png", png(pixels), "image/png")
    heights = page.bars("stage1_block1_se")
    np.testing.assert_allclose(heights, (expected - low) / (high - low), atol=1e-3)
    assert float(page.locator(".low").text_content()) == pytest.approx(low, abs=6e-3)
    assert float(page.locator(".high").text_content()) == pytest.approx(high, abs=6e-3)


def test_a_resized_picture_is_close_to_the_packages(visit):
    """The browser's resizing is another one; on a smooth picture that is of little weight."""
    x, y = np.meshgrid(np.linspace(0, 6, 150), np.linspace(0, 4, 100))
    pixels = (127.5 + 127 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)).astype(np.uint8)
    content = network()
    expected = run(content, pixels)["predictions"]
    page = visit()
    page.drop("network.onnx", content)
    page.drop("picture.png", png(pixels), "image/png")
    assert page.results[0][0] == expected.argmax()
    np.testing.assert_allclose(
        [value for _, _, value in page.results], np.sort(expected)[::-1][:5], atol=0.01
    )


def test_model_in_the_address(visit, files):
    (files / "network.onnx").write_bytes(network())
    page = visit("?model=files/network.onnx")
    assert page.message == ""
    about = page.locator("#about").text_content()
    assert all(
        text in about
        for text in ("network.onnx", "keras_senet, a test", "28 × 28 × 3, NHWC", "3 SE blocks")
    )
    page.drop("picture.png", png(picture()), "image/png")
    assert len(page.results) == 5


def test_chosen_pasted_and_dropped_files_are_alike(visit):
    content, pixels = network(), picture()
    page = visit()
    page.choose("#model-file", "network", content)
    page.choose("#picture-file", "picture.png", png(pixels))
    chosen = page.results
    page.drop("other.png", png(picture(seed=5)), "image/png")
    assert page.results != chosen
    page.hand_over("paste", "image.png", png(pixels), "image/png")
    assert page.results == chosen
    page.drop(
        "network", content, onto="[data-kind=model]"
    )  # by its place, as the name says nothing
    assert page.results == chosen


def test_a_picture_waits_for_a_network(visit):
    page = visit()
    page.drop("picture.png", png(picture()), "image/png")
    assert "No network is loaded yet" in page.message
    assert page.results == []
    page.drop("network.onnx", network())
    assert page.message == ""
    assert len(page.results) == 5


def test_another_network_takes_the_place_of_the_first(visit):
    page = visit()
    page.drop("network.onnx", network())
    page.drop("picture.png", png(picture()), "image/png")
    page.drop("network.onnx", network(blocks={"stage3_block1_se": 4}))
    assert list(page.gates) == ["stage3_block1_se"]
    page.drop("network.onnx", b"nothing")
    assert page.results == []
    assert page.gates == {}
    assert page.locator("#about").is_hidden()


def test_classes_without_names_are_numbers(visit):
    page = visit()
    page.drop("network.onnx", network(class_names=None))
    page.drop("picture.png", png(picture()), "image/png")
    assert [name for _, name, _ in page.results] == [
        f"class {index}" for index, _, _ in page.results
    ]


def test_a_network_without_gates_has_no_charts(visit):
    page = visit()
    page.drop("network.onnx", network(blocks={}))
    page.drop("picture.png", png(picture()), "image/png")
    assert len(page.results) == 5
    assert page.locator("#gates").is_hidden()
    assert "gates=True" in page.locator("#about").text_content()


def test_outputs_that_are_no_probabilities_are_not_shown_as_such(visit):
    page = visit()
    page.drop("network.onnx", network(softmax=False))
    page.drop("picture.png", png(picture()), "image/png")
    assert "no probabilities" in page.locator("#results-note").text_content()
    assert "%" not in page.locator("#results").text_content()


def test_text_of_a_file_is_never_markup(visit):
    markup = "<img src=x onerror=\"document.title='taken'\"><b>bold</b>"
    names = json.dumps([markup + name for name in NAMES])
    layer = "stage1_<b>block1</b>_se"
    page = visit()
    page.drop(f"{markup}.onnx", network(class_names=names, source=markup, blocks={layer: 8}))
    page.drop("picture.png", png(picture()), "image/png")
    assert all(name.startswith(markup) for _, name, _ in page.results)
    assert list(page.gates) == [layer]
    assert page.locator("#about").text_content().count(markup) == 2
    page.drop(f"{markup}.png", b"no picture", "image/png")
    assert markup in page.message
    assert page.locator("img, b").count() == 0
    assert page.page.title() != "taken"


def inside_out(content):
    """The same length, with the graph's bytes turned around."""
    start = content.index(b"images")
    return content[:start] + content[start:][::-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ONNX file, or a damaged one"),
        (b"<!doctype html><p>404", "not an ONNX file, or a damaged one"),
        (png(picture()), "not an ONNX file, or a damaged one"),
        (network()[:-20], "not an ONNX file, or a damaged one"),
        (inside_out(network()), "damaged"),
        (foreign(), 'needs one input "images".* This file has "data", float32 of \\(1, 5\\)'),
        (network(preprocessing=None), "does not carry its normalisation"),
        (network(preprocessing="{"), '"preprocessing" is not JSON'),
        (network(preprocessing="{}"), '"preprocessing" needs a crop_fraction'),
        (network(class_names='["one"]'), '"class_names" must be a list of 7 names'),
    ],
    ids=[
        "empty",
        "text",
        "picture",
        "cut",
        "damaged",
        "input",
        "raw",
        "no-json",
        "no-crop",
        "names",
    ],
)
def test_what_is_no_network_for_this_page_is_refused(visit, content, message):
    page = visit()
    page.drop("network.onnx", content)
    assert re.search(message, page.message)
    page.drop("picture.png", png(picture()), "image/png")
    assert "No network is loaded yet" in page.message
    assert page.results == []


@pytest.mark.parametrize("zone", ["body", "[data-kind=model]", "[data-kind=picture]"])
def test_a_tflite_file_is_called_one(visit, zone):
    """Wherever it is dropped; the identifier is that of TensorFlow's schema.fbs."""
    page = visit()
    page.drop("detector.tflite", b"\x1c\0\0\0TFL3" + bytes(99), onto=zone)
    assert "a TFLite file, which ONNX Runtime Web, the runtime of this page, cannot run" in (
        page.message
    )
    assert "to_onnx" in page.message


def test_an_output_of_another_name_is_refused(visit):
    model = onnx.load_from_string(foreign())
    model.graph.node.clear()
    model.graph.input.clear()
    model.graph.output.clear()
    shape = ["batch", 8, 8, 3]
    model.graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, shape))
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, shape))
    model.graph.node.append(helper.make_node("Relu", ["images"], ["features"]))
    page = visit()
    page.drop("network.onnx", model.SerializeToString())
    assert 'needs an output "predictions"' in page.message


def test_outputs_that_are_not_finite_are_refused(visit):
    model = onnx.load_from_string(network())
    for weights in model.graph.initializer:
        if weights.name == "std":
            weights.CopyFrom(numpy_helper.from_array(np.zeros((3, 1, 1), np.float32), "std"))
    page = visit()
    page.drop("network.onnx", model.SerializeToString())
    page.drop("picture.png", png(picture()), "image/png")
    assert "not finite" in page.message
    assert page.results == []


def test_a_picture_that_cannot_be_decoded(visit):
    page = visit()
    page.drop("network.onnx", network())
    page.drop("picture.png", png(picture()), "image/png")
    page.drop("broken.png", png(picture())[:60], "image/png")
    assert "cannot decode this as a picture: broken.png" in page.message
    assert page.results == []
    assert page.gates == {}
    page.drop("picture.png", png(picture()), "image/png")
    assert page.message == ""
    assert len(page.results) == 5


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?model=files/none.onnx", "no such file (404): /files/none.onnx"),
        ("?model=https://example.com/a.onnx", "only, not of https://example.com"),
        ("?model=http://[", "not an address: http://["),
        ("?model=index.html", "not an ONNX file"),
    ],
)
def test_an_address_without_a_network(visit, query, message):
    assert message in visit(query).message


def test_without_the_runtime_the_page_says_how_to_get_it(visit):
    page = visit(without="**/ort/**")
    assert "npm install" in page.message
    page.drop("network.onnx", network())
    assert "npm install" in page.message
    page = visit(without="**/ort/*.wasm")
    page.drop("network.onnx", network())
    assert "npm install" in page.message


def test_the_keyboard_reaches_everything(visit):
    page = visit()
    page.drop("network.onnx", network())
    page.drop("picture.png", png(picture()), "image/png")
    reached = []
    for _ in range(5):
        page.page.keyboard.press("Tab")
        reached.append(
            page.page.evaluate("document.activeElement.id || document.activeElement.tagName")
        )
    assert reached == ["model-file", "picture-file", "INPUT", "SUMMARY", "SUMMARY"]
    page.page.keyboard.press("Enter")
    assert page.locator("[data-layer=stage2_block1_se]").is_hidden()
    unnamed = [
        svg for svg in page.locator("svg").all() if "mean" not in svg.get_attribute("aria-label")
    ]
    assert unnamed == []


# Detectors


@pytest.fixture(scope="module")
def detector():
    """The bytes of an ONNX file as `to_onnx` writes it of a detector."""
    keras_detector = make_detector()
    canvases = [(128, 128)]
    about = exporting.describe_file(keras_detector, canvases)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "detector.onnx")
        write_detector(exporting.fold_detector(keras_detector), canvases, about, path)
        return path.read_bytes(), keras_detector.preprocessing


def test_boxes_are_those_of_python(visit, detector):
    content, preprocessing = detector
    pixels = picture(96, 128, seed=3)  # of the size that it is resized to
    images = np.zeros((1, 128, 128, 3), "float32")
    images[0, :96] = (pixels - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {"images": images, "size": np.int32([96, 128])})
    expected = dict(zip(names, outputs, strict=True))
    shown = expected["scores"] >= 0.5
    assert 0 < shown.sum() < expected["count"]
    page = visit()
    page.drop("detector.onnx", content)
    page.drop("picture.png", png(pixels), "image/png")
    assert page.message == ""
    indices, classes, values = zip(*page.results, strict=True)
    assert list(indices) == expected["classes"][shown].tolist()
    assert list(classes) == ["abcde"[index] for index in indices]
    np.testing.assert_allclose(values, expected["scores"][shown], atol=1e-4)
    rows = page.locator("#results li").all()
    boxes = [list(map(float, row.get_attribute("data-box").split())) for row in rows]
    np.testing.assert_allclose(boxes, expected["boxes"][shown], atol=1e-2)
    assert f"{expected['count'] - shown.sum()} more" in page.locator("#results-note").text_content()
    assert "128 × 128 × 3" in page.locator("#about").text_content()
    assert "Gates" not in page.locator("#about").text_content()
    assert page.locator("#gates").is_hidden()
    # Below the picture and beside the boxes there is nothing but border.
    (red,) = page.page.evaluate(
        "[document.querySelector('#crop').getContext('2d').getImageData(0, 127, 1, 1).data[0]]"
    )
    assert red == 0


def test_boxes_of_an_enlarged_picture_are_in_its_own_pixels(visit, detector):
    content, _ = detector
    pixels = np.kron(picture(96, 128, seed=3), np.ones((3, 3, 1), np.uint8))
    page = visit()
    page.drop("detector.onnx", content)
    page.drop("picture.png", png(pixels), "image/png")
    rows = page.locator("#results li").all()
    boxes = np.array([row.get_attribute("data-box").split() for row in rows], float)
    assert 128 < boxes[:, 2].max() <= 384
    assert 96 < boxes[:, 3].max() <= 288
    assert "96 × 128 of 128 × 128" in page.locator("#seen").text_content()


def test_a_detector_that_does_not_say_how_pictures_are_prepared(visit, detector):
    model = onnx.load_from_string(detector[0])
    for entry in model.metadata_props:
        if entry.key == "preprocessing":
            entry.value = '{"mean": [1, 2], "std": [1]}'
    page = visit()
    page.drop("detector.onnx", model.SerializeToString())
    assert "do not say how pictures are prepared" in page.message
