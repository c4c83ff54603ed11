"""The benchmark's own environment, benchmarks/.venv: Atoll from this checkout, PyTorch and the other simulators. Standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / ".venv"
PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STEPS = {  # what is installed, one after another; what fails is left out of the comparison and named in the table
    "atoll": (["--editable", str(HERE.parent)],),
    "torch": (["torch==2.13.0", "--extra-index-url", "https://download.pytorch.org/whl/cpu"],),
    "pfl": (["pfl==0.6.0"],),
    "fedjax": (["fedjax==0.0.17"],),
    "flower": (
        ["flwr[simulation]==1.42.0"],
        # Where its pins do not resolve (a certifi that an index lacks): the package alone, and what its simulator imports.
        ["--no-deps", "flwr==1.42.0"],
        [
            *("ray==2.55.1", "certifi", "cryptography", "grpcio", "grpcio-health-checking", "protobuf<7", "pycryptodome", "iterators", "typer", "tomli"),
            *("tomli-w", "pathspec<2", "prompt-toolkit", "rich", "pyyaml", "requests", "httpx", "click", "packaging", "sqlalchemy[asyncio]", "alembic"),
            *("uvicorn", "fastapi", "starlette"),
        ],
    ),
}


def prepare(wanted: list[str]) -> dict[str, str]:
    """Makes the environment where it is missing; returns name -> reason of what could not be installed."""
    if not PYTHON.exists():
        print(f"Making {FOLDER} (once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    ledger = FOLDER / "installed.json"
    state: dict[str, str] = json.loads(ledger.read_text()) if ledger.exists() else {}
    for name in wanted:
        if state.get(name) == "":
            continue
        print(f"Installing {name} (once)", flush=True)
        state[name] = _install(*STEPS[name])
        ledger.write_text(json.dumps(state, indent=1))
    return {name: state[name] for name in wanted if state[name]}


def _install(first: list[str], *fallback: list[str]) -> str:
    """The last lines of what went wrong, or nothing."""
    why = _pip(first)
    if not why or not fallback:
        return why
    return next((failed for step in fallback if (failed := _pip(step))), "")


def _pip(what: list[str]) -> str:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else " ".join(errors[-2:])[:300] or f"pip ended with {done.returncode}"
