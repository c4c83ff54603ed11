"""Rewrites docs/methods.md and the generated parts of the README, docs/heterogeneity.md, docs/data.md and docs/metrics.md: families of methods, skews, sources
of data, measures, and with --demo what the main job prints and a picture of its report.

    python docs/generate.py           the tables of methods, skews, sources and measures
    python docs/generate.py --demo    runs the main job too (a minute or two; the picture needs Chromium)
    python docs/generate.py --check   changes nothing; exit code 1 where the tables are not up to date
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from atoll.data.skew import TABLE as SKEWS
from atoll.data.sources import SOURCES
from atoll.methods import TABLE, WRAPPERS, Row
from atoll.parts.selection import TABLE as SELECTORS
from atoll.report.columns import every_column

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "methods.md"
DIFFERENCES = ROOT / "docs" / "heterogeneity.md"
DATA = ROOT / "docs" / "data.md"
METRICS = ROOT / "docs" / "metrics.md"
WIDTH = 104  # characters of the printed table


def families() -> dict[str, list[Row]]:
    """Family -> its methods, in the order of the table."""
    found: dict[str, list[Row]] = {}
    for row in TABLE:
        found.setdefault(row.family, []).append(row)
    return found


def methods_short() -> str:
    """The families and their methods' names as Markdown, for the README."""
    lines = ["| family | methods |", "|---|---|"]
    lines += [f"| {family} | {', '.join(row.title for row in rows)} |" for family, rows in families().items()]
    lines += [f"| around any method | {', '.join(f'{around.title} (`NAME+{around.name}`)' for around in WRAPPERS)}; also several: `fedavg+adam+ft` |"]
    lines += [f"| who is asked | {', '.join(f'`{row.name}`' for row in SELECTORS)} (`--select NAME`) |"]
    return "\n".join(lines)


def methods_page() -> str:
    """All about every method in a line, as a Markdown page."""
    lines = ["# Methods", "", "Made by `make docs` from the table in `src/atoll/methods/__init__.py`. `atoll methods NAME` explains one.", ""]
    for family, rows in families().items():
        lines += [f"## {family[0].upper()}{family[1:]}"]
        lines += ["| method | `--method` | paper | kept where | traffic per round and client: down / up |", "|---|---|---|---|---|"]
        lines += [f"| {row.title} | `{row.name}` | {row.paper} | {row.kept} | {row.traffic} |" for row in rows]
        lines += [""]
    lines += ["## Around any method", "| name | what it is | paper |", "|---|---|---|"]
    lines += [f"| `NAME+{around.name}` | {around.about} | {around.paper} |" for around in WRAPPERS]
    lines += ["", "Several go around each other, from the inside out: `fedavg+adam+ft`, `fedprox+clustered+ft`."]
    lines += ["", "## Who is asked: `--select NAME`, with settings as in `--select tifl:tiers=3`", "| selector | whom it asks | paper |", "|---|---|---|"]
    lines += [f"| `{row.name}` | {row.about} | {row.paper} |" for row in SELECTORS]
    return "\n".join(lines) + "\n"


def skews() -> str:
    """All skews as Markdown."""
    return "\n".join(["| `--skew` | what it does |", "|---|---|", *(f"| `{entry.example}` | {entry.about} |" for entry in SKEWS.values())])


def sources() -> str:
    """All sources of data as Markdown, heading by heading."""
    lines: list[str] = []
    for kind in dict.fromkeys(source.kind for source in SOURCES.values()):
        lines += [f"### {kind[0].upper()}{kind[1:]}", "| `--data` | what it is | where it comes from | licence |", "|---|---|---|---|"]
        lines += [f"| `{s.name}` | {s.what} | {s.where} | {s.licence} |" for s in SOURCES.values() if s.kind == kind]
        lines += [""]
    return "\n".join(lines).rstrip()


def measures() -> str:
    """All columns of the comparison as Markdown."""
    lines = ["| in `result.table` and CSV | on the page | what it is |", "|---|---|---|"]
    lines += [f"| `{column.key}` | {' '.join(column.title.split())} | {column.full} |" for column in every_column(regression=False)]
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
        raise SystemExit(f"There is no part <!-- {name} --> ... <!-- /{name} --> where it should be.")
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
    new, page = with_part(old, "methods", methods_short()), methods_page()
    ways = with_part(DIFFERENCES.read_text(encoding="utf-8"), "skews", skews())
    data = with_part(DATA.read_text(encoding="utf-8"), "sources", sources())
    scores = with_part(METRICS.read_text(encoding="utf-8"), "measures", measures())
    if asked.check:
        pages = ((README, new), (PAGE, page), (DIFFERENCES, ways), (DATA, data), (METRICS, scores))
        old_ones = [file.name for file, content in pages if not file.exists() or file.read_text(encoding="utf-8") != content]
        raise SystemExit(f"The tables of {', '.join(old_ones)} are not up to date. Run `make docs`." if old_ones else None)
    if asked.demo:
        new = with_part(new, "demo", run_demo())
    README.write_text(new, encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")
    DIFFERENCES.write_text(ways, encoding="utf-8")
    DATA.write_text(data, encoding="utf-8")
    METRICS.write_text(scores, encoding="utf-8")


if __name__ == "__main__":
    main()
