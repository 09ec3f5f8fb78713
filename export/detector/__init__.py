"""Files of detectors, each run again and compared with the `Detector`, and what runs them."""

from .reading import ExportedDetector, load_exported

__all__ = ["ExportedDetector", "load_exported"]
