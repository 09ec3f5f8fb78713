"""Comparisons with peers, declared as data: `python -m benchmarks --list`.

Needs the extra `peers` and timm (CONTRIBUTING.md); what is not installed becomes a row with its
error.
"""
