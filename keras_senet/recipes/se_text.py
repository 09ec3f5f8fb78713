"""SE blocks as a short text: what `keras-senet ablate --variants NAME:TEXT` and titles have, and
what recipe.json of earlier versions has.
"""

import dataclasses

from keras_senet.se import SE

NAMED = {"None": None, "none": None, "True": True, "False": False}


def read_se(text: str) -> SE | None:
    """The SE blocks of "default", of "none", or of fields to change: "reduction=8,stages=2+3".

    Raises:
        ValueError: for anything else, naming it.
    """
    if text in ("default", "none"):
        return SE() if text == "default" else None
    names = [each.name for each in dataclasses.fields(SE)]
    changes = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in names or not value:
            raise ValueError(
                f"SE blocks must be 'default', 'none', or NAME=VALUE of {', '.join(names)}. "
                f"Received: {text!r}"
            )
        changes[name] = _read_value(name, value)
    return SE(**changes)


def _read_value(name, text):
    if name != "stages":
        return NAMED[text] if text in NAMED else int(text) if text.isdecimal() else text
    try:
        return tuple(map(int, text.split("+")))
    except ValueError as error:
        raise ValueError(
            f"`stages` must be stage numbers joined by '+'. Received: stages={text}"
        ) from error


def write_se(se: SE | None) -> str:
    """The text that `read_se` reads as these blocks."""
    if se is None:
        return "none"
    own = vars(SE())
    changed = {n: "none" if v is None else v for n, v in vars(se).items() if v != own[n]}
    if changed.get("stages"):
        changed["stages"] = "+".join(map(str, changed["stages"]))
    return ",".join(f"{name}={value}" for name, value in changed.items()) or "default"
