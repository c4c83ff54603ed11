"""Downloads files with a progress bar; a file is either complete and checked, or not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from atoll.core.errors import AtollError

BLOCK = 1 << 16  # bytes per read
PATIENCE = 30  # seconds without an answer before giving up


def fetch(base: str, files: Mapping[str, str], folder: Path, otherwise: str) -> None:
    """Downloads `files` (name -> "md5:..." or "sha256:...") from `base` into `folder`; those that are there already are kept.

    `otherwise` tells how else to get them; it ends the error when a download fails or a checksum is wrong (AtollError, one line).
    """
    missing = [name for name in files if not (folder / name).exists()]
    if not missing:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for name in missing:
            url = f"{base.rstrip('/')}/{name}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _fetch_one(url, folder / name, files[name], progress)
            except HTTPError as error:
                error.close()
                raise AtollError(f"{url} could not be downloaded: the server says {error.code} {error.reason}. {otherwise}") from None
            except (OSError, HTTPException, ValueError) as error:  # URLError, timeouts and full disks are OSErrors; a bad URL is a ValueError
                reason = getattr(error, "reason", None) or error
                raise AtollError(f"{url} could not be downloaded: {reason}. {otherwise}") from None


def _fetch_one(url: str, target: Path, checksum: str, progress: Progress) -> None:
    algorithm, _, expected = checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    # Written beside the target and renamed when it is whole, so that neither Ctrl-C nor a lost connection leaves half a file.
    handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file, urlopen(url, timeout=PATIENCE) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            task = progress.add_task(target.name, total=total)
            got = 0
            while block := response.read(BLOCK):
                file.write(block)
                digest.update(block)
                got += len(block)
                progress.update(task, completed=got)
        if total is not None and got < total:
            raise OSError(f"the connection broke off after {got:,} of {total:,} bytes")
        if digest.hexdigest() != expected:
            raise OSError(f"its {algorithm} checksum is {digest.hexdigest()}, not {expected}, so it is not the right file")
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)
