"""Chromium for tests of pages."""

import contextlib
import os
import shutil

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing(reason):
    """A skip; a failure in CI, where all that the tests need is to be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextlib.contextmanager
def launched():
    """Playwright's browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("needs playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing(f"needs one of {PROGRAMS}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()
