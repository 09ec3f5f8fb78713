"""What MkDocs adds to the pages of this folder: those made of the repository's other Markdown
files and of the notebooks, tables of the package's data and of the command line's help, and the
reference.

Nothing here imports Keras or TensorFlow.
"""

import ast
import base64
import io
import json
import os
import re
from contextlib import redirect_stdout
from pathlib import Path

import keras_senet_cli

keras_senet_cli.parsing = True  # `import keras_senet` is then without Keras

from mkdocs.structure.files import File  # noqa: E402

from keras_senet import cli, zoo  # noqa: E402
from keras_senet.detection import recipes as detection_recipes  # noqa: E402
from keras_senet.networks import read_table  # noqa: E402
from keras_senet.recipes import RECIPES  # noqa: E402
from keras_senet.weights.registry import list_weights  # noqa: E402

ROOT = Path(__file__).parents[1]

# Markdown files of the repository whose pages have other names: README's is another text
MIRRORED = {
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks.md",
    "export/README.md": "exported-files.md",
    "export/web/README.md": "browser.md",
}
# Files whose pages have the same names, and at the top the same in lower case
SAME_PLACE = ("*.md", "benchmarks/*.md", "results/**/*.md", "notebooks/*.md", "notebooks/*.ipynb")
LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))")


def on_files(files, config):
    """Adds the pages that are not in this folder, and the files that they show."""
    for uri, content in generate().items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown, **_):
    """Puts what is generated into the pages of this folder, where they have `<!-- name -->`."""
    return re.sub(r"^<!-- (\w+) -->$", lambda m: TABLES[m[1]](), markdown, flags=re.MULTILINE)


def generate() -> dict[str, str | bytes]:
    """Pages, and the pictures and other files that they show, by their paths in the site."""
    pages, made = mirrored(), dict(reference())
    made |= {str(each.relative_to(ROOT)): each.read_bytes() for each in ROOT.glob("results/*.png")}
    for source, uri in pages.items():
        mirror = Mirror(source, uri, pages)
        if source.endswith(".ipynb"):
            made[uri] = convert_notebook(source, mirror)
        elif not (ROOT / "docs" / uri).exists():
            made[uri] = mirror.move_links((ROOT / source).read_text())
        made |= mirror.shown
    return made


# Pages that are files of the repository


def mirrored() -> dict[str, str]:
    """The page of each file, both as paths from their roots."""
    found = [file.relative_to(ROOT) for each in SAME_PLACE for file in sorted(ROOT.glob(each))]
    same = {str(file): str(file.with_suffix(".md")) for file in found}
    return {file: page if "/" in page else page.lower() for file, page in (same | MIRRORED).items()}


class Mirror:
    """Texts of a file of the repository as parts of a page of the site.

    pages  the page of each file that is one
    shown  the other files that the texts link to, which the site then has
    """

    def __init__(self, source: str, uri: str, pages: dict[str, str]):
        self.folder, self.uri, self.pages = (ROOT / source).parent, uri, pages
        self.shown: dict[str, bytes] = {}

    def move_links(self, text: str) -> str:
        """The text with links to where the site has what they name."""
        return LINK.sub(self._move, text)

    def _move(self, match):
        target, hash, anchor = match[1].partition("#")
        if ":" in target or not target:
            return match[0]
        path = (self.folder / target).resolve()
        path = path / "README.md" if path.is_dir() else path
        name = str(path.relative_to(ROOT))
        if name not in self.pages:
            self.shown[name] = path.read_bytes()
        found = os.path.relpath(self.pages.get(name, name), Path(self.uri).parent)
        return f"{found}{hash}{anchor}"


def convert_notebook(source: str, mirror: Mirror) -> str:
    """The page of a notebook with the outputs that are stored in it."""
    texts = []
    for cell in json.loads((ROOT / source).read_text())["cells"]:
        text = "".join(cell["source"])
        is_code = cell["cell_type"] == "code"
        texts.append(fence(text, "python") if is_code else mirror.move_links(text))
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{Path(source).stem}_{len(mirror.shown)}.png"
                mirror.shown[f"notebooks/{name}"] = base64.b64decode(data["image/png"])
                texts.append(f"![Output]({name})")
            else:
                text = "".join(output.get("text", data.get("text/plain", ())))
                texts.append(fence(text.rstrip(), "text"))
    return "\n\n".join(texts) + "\n"


def fence(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


# Tables in pages


def list_zoo() -> str:
    """Every network and plain counterpart; what their weights are, the next table says."""
    of_weights = ("best", "checkpoints", "sources")
    return zoo.markdown(zoo.rows(), [name for name in zoo.columns() if name not in of_weights])


def list_checkpoints() -> str:
    """Every set of published weights."""
    rows = [
        (
            *(f"`{each.model}`", f"`{each.tag}`", f"{each.top1:.2f}", f"{each.top5:.2f}"),
            *(each.input_size, each.licence),
            f"[{Path(each.source).name}]({each.source})" if "://" in each.source else each.source,
        )
        for each in list_weights()
    ]
    return table(("network", "tag", "top-1", "top-5", "size", "licence", "source"), rows)


def list_recipes() -> str:
    """Every named recipe: its source, its result and the fields that differ from the defaults."""
    parts = []
    for command, named in {"train": RECIPES, "detect train": detection_recipes.RECIPES}.items():
        heads = ("recipe", "network", "dataset", "epochs", "batch", "rate")
        rows = [
            (
                f"[{name}](#{anchor(command, name)})",
                *(f"`{each.model}`", each.dataset, each.epochs, each.batch_size),
                f"{each.learning_rate:g}",
            )
            for name, each in named.items()
        ]
        parts += [f"## keras-senet {command}", table(heads, rows)]
        for name, each in named.items():
            parts.append(f"### {name} {{#{anchor(command, name)}}}")
            parts.append(f"Source: {each.source}.\n\nResult: {each.result}.")
            default = type(each)().flat() | {"source": each.source, "result": each.result}
            changed = {k: v for k, v in each.flat().items() if v != default[k]}
            parts.append(
                table(("field", "value"), [(f"`{k}`", f"`{v}`") for k, v in changed.items()])
            )
    return "\n\n".join(parts)


def list_commands() -> str:
    """Every command with its help, as `keras-senet COMMAND --help` prints it."""
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    commands = keras_senet_cli.EVERY_COMMAND
    rows = [(f"[`{name}`](#{anchor(name)})", text) for name, text in commands.items()]
    parts = [table(("command", "description"), rows)]
    for name in commands:
        with redirect_stdout(io.StringIO()) as printed:
            cli.main([*name.split(), "--help"])
        text = "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())
        parts += [f"## {name} {{#{anchor(name)}}}", fence(text, "text")]
    return "\n\n".join(parts)


TABLES = {
    "zoo": list_zoo,
    "weights": list_checkpoints,
    "recipes": list_recipes,
    "commands": list_commands,
}


def anchor(*words: str) -> str:
    return "-".join(words).replace(" ", "-")


def table(heads, rows) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


# The reference

# What all networks have, which are attributes of their module
CONSTRUCTOR = """::: keras_senet.models.constructor.Constructor
    options: {filters: [], members: [__call__, variant, load]}"""

# Of dictionaries such as RECIPES, whose names are listed
HIDDEN = "\n    options: {show_attribute_values: false}"


def public_modules() -> dict[str, list[str]]:
    """The modules with `__all__` in their packages' `__init__.py`, with their public names."""
    found = {}
    for folder, package in ((ROOT / "keras_senet", "keras_senet"), (ROOT / "export", "export")):
        for file in sorted(folder.rglob("__init__.py")):
            inside = file.parent.relative_to(folder).parts
            module = ".".join(
                ("keras_senet", *(() if package == "keras_senet" else (package,)), *inside)
            )
            if names := names_of(file):
                found[module] = names
    return found


def names_of(file: Path) -> list[str]:
    """What `__all__` in a module is, without running it: HOMES and the networks are known."""
    tree = ast.parse(file.read_text())
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if "__all__" not in values:
        return []
    homes = ast.literal_eval(values["HOMES"]) if "HOMES" in values else {}
    text = ast.unparse(values["__all__"])
    return list(eval(text, {"HOMES": homes, "read_table": read_table, "list": list}))


def reference() -> dict[str, str]:
    """A page for each public module, with an entry for each public name, and a list of them."""
    pages, rows = {}, []
    for module, names in public_modules().items():
        title = (
            f"# {module}\n\n::: {module}\n    options: {{members: false, show_root_heading: false}}"
        )
        entries = [
            f"::: {module}.{name}{HIDDEN if name.isupper() and name.endswith('S') else ''}"
            for name in names
        ]
        if module == "keras_senet.models":
            entries.insert(0, CONSTRUCTOR)
        pages[f"reference/{module}.md"] = "\n\n".join([title, *entries])
        links = ", ".join(f"[`{name}`]({module}.md#{module}.{name})" for name in names)
        rows.append((f"[`{module}`]({module}.md)", links))
    index = f"# Reference\n\nEvery public name.\n\n{table(('module', 'names'), rows)}\n"
    return pages | {"reference/index.md": index}
