"""Rewrites the generated parts of the README: the table of methods, and with --demo what the main job prints and a picture of its report.

    python docs/generate.py           the table of methods
    python docs/generate.py --demo    runs the main job too (a minute or two; the picture needs Chromium)
    python docs/generate.py --check   changes nothing; exit code 1 where the table of methods is not up to date
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from atoll.methods import TABLE, WRAPPERS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
WIDTH = 104  # characters of the printed table


def methods_table() -> str:
    """The table of methods as Markdown."""
    lines = ["| method | `--method` | family of the survey | paper | kept where | traffic per round and client: down / up |", "|---|---|---|---|---|---|"]
    lines += [f"| {row.title} | `{row.name}` | {row.family} | {row.paper} | {row.kept} | {row.traffic} |" for row in TABLE]
    lines += [f"| ...+{around.title} | `NAME+{around.name}` | {around.about} | {around.paper} | as NAME | as NAME |" for around in WRAPPERS]
    return "\n".join(lines)


def demo_table(run: Path) -> str:
    """What the main job prints, as a code block."""
    from rich.console import Console

    from atoll.report.table import print_table

    console = Console(width=WIDTH, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    print_table(run, console)
    return "```text\n" + "\n".join(line.rstrip() for line in console.export_text().strip("\n").splitlines()) + "\n```"


def with_part(text: str, name: str, content: str) -> str:
    """`text` with what stands between <!-- name --> and <!-- /name --> replaced."""
    before, start, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not start or not end:
        raise SystemExit(f"{README.name} has no part <!-- {name} --> ... <!-- /{name} -->.")
    return f"{before}{start}{content}\n{end}{after}"


def run_demo() -> str:
    """Runs the main job, takes the picture of its report, and returns its table."""
    import atoll

    sys.path.insert(0, str(Path(__file__).parent))
    from picture import main as picture

    with tempfile.TemporaryDirectory() as folder:
        result = atoll.run(out=Path(folder) / "run")
        picture(result.report(), ROOT / "docs" / "report.png")
        return demo_table(result.folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    old = README.read_text(encoding="utf-8")
    new = with_part(old, "methods", methods_table())
    if asked.check:
        raise SystemExit(None if new == old else "README.md: the table of methods is not up to date. Run `make docs`.")
    if asked.demo:
        new = with_part(new, "demo", run_demo())
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
