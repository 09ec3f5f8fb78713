"""Weights by name or path: published ones, files of other frameworks, and this package's own.

A file is opened by its reader (`readers`), which gives named arrays; `names` turns them into this
package's names and layout; `loading` chooses the variant of the network that the file is for, and
fills it.
"""

from keras_senet.weights.download import DownloadError
from keras_senet.weights.loading import open_weights
from keras_senet.weights.readers import DamagedFileError, UnsupportedFileError
from keras_senet.weights.registry import Checkpoint, is_published, list_weights, resolve
from keras_senet.weights.saving import save_weights

__all__ = [
    "Checkpoint",
    "DamagedFileError",
    "DownloadError",
    "UnsupportedFileError",
    "is_published",
    "list_weights",
    "open_weights",
    "resolve",
    "save_weights",
]
