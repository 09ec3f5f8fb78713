"""How the reference reads the package, as an extension of griffe: names that are loaded when they
are first used, and the fields in docstrings, which are rows of aligned columns.
"""

import ast
import re

import griffe

# For the docstring of constructors, which is a template
ANY_NETWORK = {
    "title": "A network",
    "size": "size",
    "min_size": "the network's `min_size`",
    "classes": "classes",
    "weights": 'the tag of published weights, such as "imagenet", ',
}
OF_NETWORKS = (
    "A [`Constructor`][keras_senet.models.constructor.Constructor], called with "
    "[these arguments][keras_senet.models.constructor.Constructor.__call__]."
)
FIELD = re.compile(r"^(?P<names>[a-z_]\w*(?:, \w+)*) {2,}(?P<text>\S.*)$")


class Docstrings(griffe.Extension):
    """Griffe runs nothing, so what the package does when it is imported is told to it here."""

    def on_package(self, *, pkg, loader, **_):
        if pkg.name == "keras_senet":
            pkg.set_member("export", loader.load("export"))  # as setup.cfg installs it
            for module in modules(pkg):
                add_homes(module)
            describe_call(pkg["models.constructor"])

    def on_attribute_instance(self, *, attr, **_):
        if str(attr.value).startswith(("application(", "small(")):
            attr.docstring = griffe.Docstring(OF_NETWORKS, parent=attr)
        elif attr.name.isupper() and isinstance(attr.value, griffe.ExprDict):  # such as RECIPES
            keys = ", ".join(f"`{key}`" for key in attr.value.keys)
            attr.docstring = griffe.Docstring(f"By name: {keys}.", parent=attr)

    def on_instance(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = list_fields(obj.docstring.value)


def add_homes(module):
    """Adds the names that `load_names` would find in a module's HOMES."""
    homes = module.members.get("HOMES")
    if homes is None or homes.is_alias:
        return
    for name, home in ast.literal_eval(str(homes.value)).items():
        if name not in module.members:
            target = f"{module.path}.{home}.{name}"
            module.set_member(name, griffe.Alias(name, target, parent=module))


def describe_call(module):
    """Gives `Constructor.__call__` the docstring that each constructor fills for itself."""
    template = ast.literal_eval(str(module["DOCUMENTATION"].value))
    call = module["Constructor.__call__"]
    call.docstring = griffe.Docstring(template.format(**ANY_NETWORK), parent=call)


def modules(module):
    yield module
    for each in module.members.values():
        if not each.is_alias and each.is_module:
            yield from modules(each)


def list_fields(text):
    """The docstring with a list where it has rows such as "name   what it is"."""
    lines, inside = [], False
    for line in text.splitlines():
        row = FIELD.match(line)
        if row:
            if not inside and lines and lines[-1].strip():
                lines.append("")
            lines.append(f"* `{row['names']}`: {row['text']}")
        elif inside and line.startswith("  "):
            lines.append(f"    {line.strip()}")
        else:
            if inside and line.strip():
                lines.append("")
            lines.append(line)
        inside = bool(row) or (inside and line.startswith("  "))
    return "\n".join(lines)
