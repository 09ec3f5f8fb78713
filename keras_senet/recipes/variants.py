"""Variants of the SE block to compare, with the paper's figures: plain data."""

import re
from dataclasses import dataclass

from keras_senet.recipes.se_text import read_se
from keras_senet.se import SE

BASE = "se"  # the variant that the others are compared with


@dataclass(frozen=True)
class Variant:
    """A network to train: its name, its SE blocks (None: the plain network), and the paper's
    figures.

    The name is that of the folder of its runs, too: letters, digits, "_", ".", "+" and "-".

    paper  top-1 error (%) of SE-ResNet-50 on ImageNet with such blocks, or None
    table  where the paper (version 4) has it

    Raises:
        ValueError: for another name.
    """

    name: str
    se: SE | None
    paper: float | None = None
    table: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[\w.+-]+", self.name) or self.name in (".", ".."):
            raise ValueError(
                'The name of a variant must be of letters, digits, "_", ".", "+" and "-", and not '
                f'"." or "..". Received: {self.name!r}'
            )


VARIANTS = {
    variant.name: variant
    for variant in (
        # name          SE blocks                   paper  table
        Variant("plain", None, 23.30, "Table 10"),
        Variant(BASE, SE(), 22.28, "Table 10"),
        Variant("r2", SE(reduction=2), 22.29, "Table 10"),
        Variant("r4", SE(reduction=4), 22.25, "Table 10"),
        Variant("r8", SE(reduction=8), 22.26, "Table 10"),
        Variant("r32", SE(reduction=32), 22.72, "Table 10"),
        Variant("max", SE(squeeze="max"), 22.57, "Table 11"),
        Variant("relu", SE(gate="relu"), 23.47, "Table 12"),
        Variant("tanh", SE(gate="tanh"), 23.00, "Table 12"),
        Variant("stage2", SE(stages=(2,)), 23.03, "Table 13"),
        Variant("stage3", SE(stages=(3,)), 23.04, "Table 13"),
        Variant("stage4", SE(stages=(4,)), 22.68, "Table 13"),
        Variant("pre", SE(position="pre"), 22.23, "Table 14"),
        Variant("post", SE(position="post"), 22.78, "Table 14"),
        Variant("identity", SE(position="identity"), 22.20, "Table 14"),
        Variant("conv3x3", SE(position="conv3x3"), 22.48, "Table 15"),
        Variant("no-squeeze", SE(squeeze=None), 22.93, "Table 16"),
    )
}
DEFAULTS = (
    *("plain", BASE, "no-squeeze", "max", "tanh", "relu", "r8", "r4"),
    *("pre", "post", "identity"),
)


def variant_of(text: str) -> Variant:
    """The `Variant` of a name in VARIANTS, or of "NAME:SE" with SE blocks as `read_se` takes them.

    Raises:
        ValueError: for another name.
    """
    name, has_se, se = text.partition(":")
    if not has_se and name in VARIANTS:
        return VARIANTS[name]
    if not se:
        raise ValueError(
            f"A variant must be one of {', '.join(VARIANTS)}, or NAME:FIELDS such as "
            f"r64:reduction=64. Received: {text!r}"
        )
    return Variant(name, read_se(se))
