"""What a command tells its user to do next: commands that can be copied to a shell."""

import shlex

from keras_senet.cli.tables import console


def shell_command(*words: object) -> str:
    """A `keras-senet` command, quoted for a shell."""
    return shlex.join(["keras-senet", *map(str, words)])


def say(text: str) -> None:
    """Prints a line that is neither wrapped nor coloured."""
    console.print(text, soft_wrap=True)
