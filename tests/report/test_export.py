"""The comparison as CSV and LaTeX."""

import json

import polars as pl
from polars.testing import assert_frame_equal

from atoll.report.digest import digest
from atoll.report.export import latex, summary_json, tex, write_csv, write_latex
from atoll.report.findings import verdict, warnings
from atoll.report.run import open_run
from atoll.report.table import comparison
from tests.report.exact_run import base, exact_run, flat
from tests.report.make_run import make_run


def test_csv_has_every_column_with_full_precision(tmp_path):
    folder = make_run(tmp_path / "run", unseen=2)
    table = comparison(folder)
    back = pl.read_csv(write_csv(folder, tmp_path / "table.csv"), schema_overrides=table.schema)
    assert_frame_equal(back.with_columns(pl.col(pl.String).fill_null("")), table, check_exact=True)


def test_json_says_what_the_page_says(tmp_path):
    d = digest(open_run(make_run(tmp_path / "run")))
    told = json.loads(summary_json(d))
    assert told["verdict"] == verdict(d).line
    assert told["warnings"] == warnings(d)
    rows = {row["method"]: row for row in told["methods"]}
    assert list(rows) == d.table["method"].to_list()
    assert rows["FedPer"]["accuracy"] == d.value("FedPer", "accuracy")
    assert any(value is None for row in rows.values() for value in row.values())  # of what diverged


def test_latex_by_hand(tmp_path):
    """New has 7 and 8 of 10 right, Local 8 and 6: 75 and 70 %; the mean over clients is the same, as both have ten rows."""
    text = latex(exact_run(tmp_path / "run", {"Local": base(8, 6), "R&D_1": flat(7, 8), "Bad": flat(1, 1, state="diverged", why="why")}))
    lines = text.splitlines()
    assert lines[1].startswith(r"\begin{tabular}{lr")
    assert lines[2:5] == [r"\toprule", lines[3], r"\midrule"]
    columns = [part.strip(" \\") for part in lines[3].split("&")]
    assert columns[:2] == ["Method", "round"]
    assert columns[2].startswith("accuracy")
    local, new = (next(line for line in lines if line.startswith(name)) for name in ("Local", r"R\&D\_1"))
    assert [cell.removesuffix(r" \\") for cell in local.split(" & ")][:4] == ["Local", "1", "70.0", "70.0"]
    assert [cell.removesuffix(r" \\") for cell in new.split(" & ")][:4] == [r"R\&D\_1", "1", r"\textbf{75.0}", r"\textbf{75.0}"]
    assert lines[lines.index(local) + 1] == r"\midrule"  # baselines above
    bad = next(line for line in lines if line.startswith("Bad"))
    assert bad == rf"Bad & \multicolumn{{{len(columns) - 1}}}{{l}}{{diverged at round 1}} \\"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]


def test_every_row_has_as_many_cells(tmp_path):
    lines = latex(make_run(tmp_path / "run", diverging=None)).splitlines()
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len({row.replace(r"\&", "").count("&") for row in rows}) == 1
    assert len(rows) == 9


def test_special_characters():
    assert tex("50% of_a & {b} $c #d ~e ^f \\g <h>") == (
        r"50\% of\_a \& \{b\} \$c \#d \textasciitilde{}e \textasciicircum{}f \textbackslash{}g \textless{}h\textgreater{}"
    )


def test_a_name_cannot_leave_the_comment(tmp_path):
    folder = exact_run(tmp_path / "run", {"New": flat(5, 6)})
    data = (folder / "data.json").read_text().replace('"made up"', '"made\\nup"', 1)
    (folder / "data.json").write_text(data)
    assert write_latex(folder, tmp_path / "t.tex").read_text().splitlines()[0].startswith("% made up; round chosen on validation rows.")
