"""Takes the picture of a report for the README: `python docs/picture.py runs/demo/report.html` writes docs/report.png.

Needs Chromium or Chrome on PATH, or its path in ATOLL_CHROMIUM. The picture is the top of the page in the light scheme.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE = "1200,1020"
MOST = 250_000  # bytes: the README is read on phones too
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--blink-settings=preferredColorScheme=1", "--virtual-time-budget=30000",
)  # fmt: skip


def main(page: Path, out: Path) -> None:
    found = os.environ.get("ATOLL_CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        sys.exit("picture: needs Chromium or Chrome on PATH, or its path in ATOLL_CHROMIUM")
    with tempfile.TemporaryDirectory() as profile:
        where = [f"--user-data-dir={profile}", f"--window-size={SIZE}", f"--screenshot={out.resolve()}", page.resolve().as_uri()]
        subprocess.run([found, *FLAGS, *where], check=True, capture_output=True, timeout=180)
    size = out.stat().st_size
    if size > MOST:
        sys.exit(f"picture: {out} has {size:,} bytes, more than {MOST:,}")
    print(f"{out}: {size:,} bytes")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/report.png"))
