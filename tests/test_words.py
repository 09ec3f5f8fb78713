"""The prose uses the terms of the field: no text contains a phrase of the left column of `WORDS`.

Of Python, in files and in notebooks, the strings and comments are read, by `ast` and `tokenize`, and not the names; of
Markdown, JavaScript and HTML the whole text.
"""

import ast
import io
import json
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = ("README.md", "CONTRIBUTING.md", "notebooks", "results")
SUFFIXES = (".md", ".ipynb", ".py", ".js", ".html")

# Whole words, as regular expressions, and what to write instead.
WORDS = {
    "anew": "again, recomputed",
    "likeliest": "top-1 prediction, most probable",
    "in front of": "before",
    "behind": "after",
    "coupled decay": "L2 regularisation",
    "idle (?:hidden )?units?": "dead units",
    "same class": "top-1 agreement",
    "largest differences?": "max abs. error, max. abs. difference",
    "ms an? (?:image|step|batch)": "ms/image",
    "an? (?:image|unit|block|channel|stage|step|second|run|row|line) each": "per image, per unit, ...",
    "(?:one|two|three|four|number|vector|factor|row|column|line|file|units?|blocks?) an? "
    "(?:image|unit|block|channel|stage|step|group|run|class|line|file|command|network|family|reader)": "per ...",
    "never get to run code": "parsed without executing code",
    "what `?train`? left|left behind": "a training work directory",
    "begun earlier|was begun|were begun": "an existing run, was started",
    "is spared|are spared": "is avoided, is not needed",
    "answers? (?:the same|differently)": "the same outputs, outputs that differ",
}
PATTERNS = {
    re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE): instead
    for words, instead in WORDS.items()
}


def python_prose(source):
    """(line, text) of each string and comment; a comment of several lines is one text, an f-string has {} for values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            text = "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield node.lineno, text
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            first, above = comments.pop(line - 1, (line, ""))
            comments[line] = first, f"{above} {token.string.lstrip('# ')}"
    yield from comments.values()


def prose(file):
    """(line or cell, text) of what a reader reads in a file."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        yield from python_prose(text)
    elif file.suffix != ".ipynb":
        yield from paragraphs(text)
    else:
        for number, cell in enumerate(json.loads(text)["cells"]):
            source = "".join(cell["source"])
            found = python_prose(source) if cell["cell_type"] == "code" else [(0, source)]
            yield from ((f"cell {number}", words) for _, words in found)


def paragraphs(text):
    """(first line, text) of each paragraph."""
    line = 1
    for paragraph in re.split(r"(\n[ \t]*\n)", text):
        if paragraph.strip():
            yield line, paragraph
        line += paragraph.count("\n")


def files():
    for root in ROOTS:
        path = ROOT / root
        found = (
            [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
        )
        yield from (file for file in found if "node_modules" not in file.parts)


def findings(file):
    for place, text in prose(file):
        words = " ".join(text.split())
        for pattern, instead in PATTERNS.items():
            for match in pattern.finditer(words):
                yield f"{file.relative_to(ROOT)}:{place}: {match.group()!r}; write: {instead}"


@pytest.mark.parametrize("file", list(files()), ids=lambda file: str(file.relative_to(ROOT)))
def test_words(file):
    found = list(findings(file))
    assert not found, "\n" + "\n".join(found)
