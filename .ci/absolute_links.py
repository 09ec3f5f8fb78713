"""Prints a Markdown file with absolute links for its relative ones: PyPI knows no repository.

python .ci/absolute_links.py README.md https://github.com/OWNER/NAME TAG
"""

import re
import sys
from pathlib import Path

LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|mailto:|#)([^)\s]+)\)")


def absolute(text, repository, tag):
    """Pictures become files, other links pages of the repository at a tag."""

    def replace(found):
        picture, words, path = found.groups()
        return f"{picture}{words}({repository}/{'raw' if picture else 'blob'}/{tag}/{path})"

    return LINK.sub(replace, text)


if __name__ == "__main__":
    file, *where = sys.argv[1:]
    print(absolute(Path(file).read_text(encoding="utf-8"), *where), end="")
