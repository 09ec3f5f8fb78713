"""The prose uses the terms of the field: no text contains a phrase of the left column of `WORDS`.

In Python, also that of notebooks, the strings and comments are searched, not the names; in
Markdown, JavaScript and HTML the whole text.
"""

import ast
import inspect
import io
import json
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "notebooks", "results", "benchmarks"),
    *("keras_senet", "keras_senet_cli.py", "export"),
)
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
    "an? (?:image|unit|block|channel|stage|step|second|run|row|line) each": "per image, ...",
    "(?:one|two|three|four|number|vector|factor|row|column|line|file|units?|blocks?) an? "
    "(?:image|unit|block|channel|stage|step|group|run|class|line|file|command|network|family|"
    "reader)": "per image, ...",
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
    """(line, text) of each string and comment.

    A comment of several lines is one text; of an f-string only the words count.
    """
    nodes = list(ast.walk(ast.parse(source)))
    joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    words = {node: [v for v in node.values if isinstance(v, ast.Constant)] for node in joined}
    parts = {part for own in words.values() for part in own}
    for node in nodes:
        if node in words:
            yield node.lineno, "{}".join(part.value for part in words[node])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
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
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in found:
            if file.suffix in SUFFIXES and "node_modules" not in file.parts:
                yield file


def findings(file):
    for place, text in prose(file):
        words = " ".join(text.split())
        for pattern, instead in PATTERNS.items():
            for match in pattern.finditer(words):
                yield f"{file.name}:{place}: {match.group()!r}; write: {instead}"


@pytest.mark.parametrize("file", list(files()), ids=lambda file: str(file.relative_to(ROOT)))
def test_words(file):
    found = list(findings(file))
    assert not found, "\n" + "\n".join(found)


SAMPLES = {
    "a.py": """
        behind = 1  # one number
        # a channel; in front
        # of the layer
        print(f"the likeliest {behind}", 'computed anew')
    """,
    "a.md": "The unit\nbehind it\n\ntakes 2 ms\nan image.\n",
}


@pytest.mark.parametrize(("name", "count"), [("a.py", 4), ("a.md", 2)])
def test_findings(name, count, tmp_path):
    """In strings and comments, also over the end of a line; not in names."""
    (tmp_path / name).write_text(inspect.cleandoc(SAMPLES[name]))
    assert len(list(findings(tmp_path / name))) == count
