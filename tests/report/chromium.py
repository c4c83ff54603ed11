"""Headless Chromium as a plain command: no driver, no port, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--virtual-time-budget=30000",
)  # fmt: skip


def browser() -> str:
    """The command; skips the test where there is none."""
    named = os.environ.get("ATOLL_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("needs Chromium or Chrome on PATH, or its path in ATOLL_CHROMIUM")
    return found


def dump(page: Path, *flags: str, size: tuple[int, int] = (1280, 2000)) -> str:
    """The page as HTML after its scripts have run."""
    with tempfile.TemporaryDirectory(prefix="atoll-chromium-") as profile:
        command = [browser(), *FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", *flags, "--dump-dom", page.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=180, check=False)
    text = done.stdout.decode("utf-8", errors="replace")
    assert "</html>" in text, f"{command[0]} gave no page (exit code {done.returncode}): {done.stderr.decode(errors='replace')[-2000:]}"
    return text
