"""Weights by name or path: published ones, files of other frameworks, and this package's own.

A file is opened by its reader (`readers`), which gives named arrays; `names` turns them into this
package's names and layout; `loading` chooses the variant of the network that the file is for, and
fills it.
"""

from keras_senet.extras import load_names

# Where the names are: those that need Keras are imported when they are first used.
HOMES = {
    "Checkpoint": "registry",
    "DamagedFileError": "readers",
    "DownloadError": "download",
    "UnsupportedFileError": "readers",
    "is_published": "registry",
    "list_tags": "registry",
    "list_weights": "registry",
    "load_weights": "saving",
    "open_weights": "loading",
    "resolve": "registry",
    "save_weights": "saving",
}
__all__ = list(HOMES)
__getattr__ = load_names(__name__, HOMES)
