"""torchvision's own detector, with random weights in its published format, on two photographs.

Only torchvision's Python part is needed: the two operators of its compiled part that detection uses
are written here, suppression in NumPy; for RoIAlign torchvision has a version of its own in Python.
"""

import re

import numpy as np
import pytest
from oracle_weights import make_weights

from keras_senet.detection import boxes as box
from keras_senet.detection import load_torchvision

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
torch = pytest.importorskip("torch")
sample_images = pytest.importorskip("sklearn.datasets").load_sample_images


@pytest.fixture(scope="module")
def detection_module():
    import timm_networks  # noqa: F401  # declares the operators
    from torchvision.ops import boxes as peer_boxes
    from torchvision.ops import poolers
    from torchvision.ops.roi_align import _roi_align

    def nms(boxes, scores, threshold):
        boxes, order = boxes.numpy(), np.argsort(-scores.numpy(), kind="stable")
        kept = []
        while len(order):
            first, order = order[0], order[1:]
            kept.append(first)
            overlaps = box.iou(boxes[[first]], boxes[order]).numpy()[0]
            order = order[overlaps <= threshold]
        return torch.tensor(np.array(kept, "int64"))

    def roi_align(features, rois, output_size, spatial_scale, sampling_ratio, aligned=False):
        side = output_size if isinstance(output_size, int) else output_size[0]
        return _roi_align(features, rois, spatial_scale, side, side, sampling_ratio, aligned)

    patch = pytest.MonkeyPatch()
    patch.setattr(peer_boxes, "nms", nms)
    patch.setattr(poolers, "roi_align", roi_align)
    from torchvision.models import detection

    yield detection
    patch.undo()


@pytest.fixture(scope="module")
def peer(detection_module):
    """torchvision's detector as it is after loading its published file: epsilon 0."""
    model = detection_module.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    arrays = make_weights({name: shape for name, shape in shapes.items() if shape})
    for name, array in arrays.items():
        if name.endswith("bn3.weight"):
            array *= 0.2  # 16 residual branches would otherwise add up to large numbers
        if "cls_score.weight" in name:
            array *= 2  # scores above the threshold of 0.05
    state = {name: torch.tensor(array, dtype=torch.float32) for name, array in arrays.items()}
    model.load_state_dict(state, strict=False)
    for module in model.modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            module.eps = 0.0
    return model.eval()


@pytest.fixture(scope="module")
def detector(peer, tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    torch.save(peer.state_dict(), path)
    return load_torchvision(path)


@pytest.mark.parametrize("portrait", [False, True])
def test_detections_equal_torchvisions(peer, detector, portrait):
    image = sample_images().images[1 if portrait else 0]
    image = image[:, 100:400] if portrait else image
    with torch.no_grad():
        tensor = torch.tensor(image.transpose(2, 0, 1) / np.float32(255))
        (expected,) = peer([tensor])
    (found,) = detector.detect([image])
    kept = [bool(detector.class_names[label - 1]) for label in expected["labels"]]
    labels, scores, boxes = (expected[name].numpy()[kept] for name in ("labels", "scores", "boxes"))
    assert len(labels) > 10
    assert len(found.boxes) >= len(labels)
    count = len(labels)
    np.testing.assert_array_equal(found.classes[:count] + 1, labels)
    np.testing.assert_allclose(found.scores[:count], scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes[:count], boxes, atol=0.05)


def test_the_older_names_of_the_published_file_load(peer, tmp_path, detector):
    state = {
        re.sub(r"((?:inner|layer)_blocks\.\d)\.0", r"\1", name).replace("conv.0.0", "conv"): value
        for name, value in peer.state_dict().items()
    }
    assert state.keys() != peer.state_dict().keys()
    torch.save(state, tmp_path / "old.pth")
    again = load_torchvision(tmp_path / "old.pth")
    for own, other in zip(again.variables, detector.variables, strict=True):
        np.testing.assert_array_equal(own, other)
