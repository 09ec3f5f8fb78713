"""What an SE block computes and where a network has them: plain data, importable without Keras."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from keras_senet.fields import check_argument, check_choice, check_field, is_integer, plain

Squeeze = Literal["avg", "max", None]
Gate = Literal["sigmoid", "tanh", "relu"]
Position = Literal["standard", "pre", "post", "identity", "conv3x3", "conv3x3_linear"]
LARGEST = 2**31 - 1  # which libraries count to
SQUEEZES, GATES, POSITIONS = map(get_args, (Squeeze, Gate, Position))


def check_excitation(reduction: Any, squeeze: Any, gate: Any, use_bias: Any) -> None:
    """Raises ValueError for what `SqueezeExcite` does not take."""
    holds = is_integer(reduction) and 1 <= reduction <= LARGEST
    check_argument("reduction", reduction, holds, f"an integer from 1 to {LARGEST}")
    check_choice("squeeze", squeeze, SQUEEZES)
    check_choice("gate", gate, GATES)
    check_choice("use_bias", use_bias, (True, False))


@dataclass(frozen=True)
class SE:
    """Where a network's SE blocks are and what they compute; `None` in its place gives the plain
    network.

    reduction  channels of the layer over those of the block's bottleneck
    squeeze    the pooling: "avg", "max" or None, which keeps height and width
    gate       the last activation: "sigmoid", "tanh" or "relu"
    use_bias   whether its two layers have biases
    position   where in a residual unit the block is (paper, Figure 5 and Tables 14 and 15)
    stages     restricts the blocks to some stages, by the numbers in the layers' names; None is all

    With F the unit's residual branch, the positions are:

    standard        relu(se(F(x)) + shortcut(x))
    pre             relu(F(se(x)) + shortcut(x))
    post            se(relu(F(x) + shortcut(x)))
    identity        relu(F(x) + se(shortcut(x)))
    conv3x3         inside F, after the first 3x3 convolution, its batch normalisation and ReLU
    conv3x3_linear  the same before batch normalisation: the paper does not say which it means
    """

    reduction: int = 16
    squeeze: Squeeze = "avg"
    gate: Gate = "sigmoid"
    use_bias: bool = True
    position: Position = "standard"
    stages: tuple[int, ...] | None = None

    def __post_init__(self):
        check_choice("position", self.position, POSITIONS)
        check_excitation(self.reduction, self.squeeze, self.gate, self.use_bias)
        object.__setattr__(self, "reduction", int(self.reduction))  # of NumPy's integers
        if self.stages is not None:
            holds = isinstance(self.stages, (tuple, list)) and all(map(is_integer, self.stages))
            check_field(self, "stages", holds, "a tuple of stage numbers, or None")
            # So that equal ones compare equal
            object.__setattr__(self, "stages", plain(tuple(self.stages)))
