"""A training run as one self-contained web page."""

from keras_senet.report.page import Written, write_page

__all__ = ["Written", "write_page"]
