"""Figures, as PNG files: plain data in, one style, each file written atomically."""
