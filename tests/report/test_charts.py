"""What charts show, against numbers known beforehand."""

import numpy as np
import pytest

from atoll.report import plots_clients, plots_cost, plots_data, plots_run
from atoll.report.colours import styles
from atoll.report.digest import digest
from atoll.report.figure import apart, ranked, text, thin
from atoll.report.legend import legend
from atoll.report.run import open_run
from tests.report.exact_run import Given, base, exact_run, flat
from tests.report.make_run import make_run
from tests.report.parsed import parse


@pytest.fixture(scope="module")
def d(tmp_path_factory):
    """Two clients with ten test rows: FedAvg 6 and 5 right, Local 8 and 4, New 7 and 9."""
    methods = {"Local": base(8, 4, bytes=0), "FedAvg": base(6, 5), "New": flat(7, 9)}
    return digest(open_run(exact_run(tmp_path_factory.mktemp("charts") / "run", methods)))


@pytest.fixture(scope="module")
def look(d):
    return styles(list(d.run.status))


def traces(chart) -> dict:
    return {trace.meta: trace for trace in chart.figure.data}


def test_the_ladder_goes_up_to_the_method_picked_on_validation_rows(d, look):
    chart = plots_run.ladder(d, look)
    assert [(trace.meta, trace.x[0]) for trace in chart.figure.data] == [("FedAvg", 55.0), ("Local", 60.0), ("New", 80.0)]


def test_the_distribution_ends_at_all_clients(d, look):
    trace = traces(plots_clients.cumulative(d, look))["New"]
    assert (list(trace.x), list(trace.y)) == ([70.0, 90.0], [50.0, 100.0])


def test_before_and_after_is_the_common_model_against_the_personal_one(d, look):
    chart = plots_clients.before_after(d, look)
    trace = traces(chart)["New"]
    assert (list(trace.x), list(trace.y)) == ([60.0, 50.0], [70.0, 90.0])
    assert "FedAvg" not in chart.legend


def test_gain_is_over_training_alone_and_in_order(d, look):
    """New has 1 less and 5 more of ten right than Local: -10 and +50 points."""
    trace = traces(plots_clients.gain(d, look))["New"]
    assert (list(trace.x), list(trace.y)) == ([25.0, 75.0], [-10.0, 50.0])
    assert list(traces(plots_clients.by_size(d, look))["New"].y) == [-10.0, 50.0]


def test_for_regression_gain_is_a_lower_loss(tmp_path):
    methods = {"Local": Given({0: [9.0], 1: [4.0]}, {0: 9.0, 1: 4.0}, baseline=True), "New": Given({0: [9.0], 1: [3.0]}, {0: 9.0, 1: 3.0})}
    d = digest(open_run(exact_run(tmp_path / "run", methods, regression=True)))
    assert list(traces(plots_clients.gain(d, styles(list(d.run.status))))["New"].y) == pytest.approx([0.1])


def test_the_histogram_counts_every_client_once(tmp_path):
    """Of 20 clients 15 have 2 of 10 right and 5 have 9: from 20 to 90 % by tens the first interval has 15 and the last 5. Of many methods a few show."""
    methods = {"Local": base(*[2] * 15, *[9] * 5), **{f"M{i}": flat(*[5] * 20) for i in range(6)}}
    d = digest(open_run(exact_run(tmp_path / "run", methods)))
    chart = plots_clients.histogram(d, styles(list(d.run.status)))
    bars = {bar.meta: list(bar.y) for bar in chart.figure.data}
    assert bars["Local"] == [15, 0, 0, 0, 0, 0, 5]
    assert list(chart.figure.layout.xaxis.tickvals) == pytest.approx([20, 30, 40, 50, 60, 70, 80, 90])
    assert all(sum(bars[name]) == 20 for name in methods)
    assert "Local" not in chart.hidden
    assert len(chart.hidden) == 5


def test_convergence_by_traffic_counts_bytes_per_client_and_levels_who_sends_nothing(d, look):
    """New sends 100 bytes each way in the only round; the large mark is at the round that counts."""
    by_round, by_bytes = plots_run.convergence(d, look)
    new = [trace for trace in by_bytes.figure.data if trace.meta == "New"]
    assert (list(new[0].x), list(new[0].y)) == ([0.0, 200.0], [0.0, 80.0])
    assert (list(new[1].x), list(new[1].y)) == ([200.0], [80.0])
    local = [trace for trace in by_bytes.figure.data if trace.meta == "Local"]
    assert [list(trace.y) for trace in local] == [[60.0, 60.0]]
    assert "Local sends nothing" in by_bytes.says
    assert list(traces(by_round)["Local"].x) == [1.0]  # its large mark comes last


def test_the_price_is_the_traffic_until_the_round_that_counts(d, look):
    """The line goes from Local, which costs nothing, to New; FedAvg costs as much and has less. There is no FedAvg+FT here to gain on."""
    chart = next(iter(plots_cost.prices(d, look)))
    found = {trace.name: (trace.x[0], trace.y[0]) for trace in chart.figure.data if trace.name}
    assert found == {"Local": (0.0, 60.0), "FedAvg": (200.0, 55.0), "New": (200.0, 80.0)}
    assert [(list(trace.x), list(trace.y)) for trace in chart.figure.data if not trace.name] == [([0.0, 200.0, 200.0], [60.0, 80.0, 80.0])]
    assert chart.says.endswith("not beaten at its price: Local and New.")


def test_every_kind_of_cost_that_somebody_has_is_drawn(tmp_path):
    d = digest(open_run(make_run(tmp_path / "run")))
    charts = list(plots_cost.prices(d, styles(list(d.run.status))))
    assert [chart.key for chart in charts] == ["price", "price-work", "price-state"]
    assert "Majority" not in charts[0].legend
    base = d.value("FedAvg+FT", "accuracy")
    gains = {trace.name: trace.y[0] for trace in charts[0].figure.data if trace.name}
    assert gains["FedPer"] == pytest.approx(100 * (d.value("FedPer", "accuracy") - base), rel=1e-4)
    assert gains["FedAvg+FT"] == 0


def test_even_shares_of_labels_stay_pale(d):
    """Half no, half yes: with the scale up to 100 %, a half is in its middle."""
    heat = plots_data.labels(d.run).figure.data[0]
    assert [list(row) for row in heat.z] == [[50.0, 50.0]] * 2
    assert (heat.zmin, heat.zmax) == (0, 100)


def test_many_methods_are_not_drawn_all_at_once(tmp_path):
    """Fourteen methods: the baseline and the nine best on validation rows show, the other four wait in the key."""
    methods = {"Local": base(1), **{f"M{i}": flat(10 - i / 2) for i in range(13)}}
    d = digest(open_run(exact_run(tmp_path / "run", methods)))
    look = styles(list(d.run.status))
    chart = plots_clients.cumulative(d, look)
    assert chart.hidden == ("M9", "M10", "M11", "M12")
    keys = {key.attributes["data-method"]: key.attributes["aria-pressed"] for key in parse(legend(chart, look)).all("button", "key")}
    assert [name for name, pressed in keys.items() if pressed == "false"] == list(chart.hidden)
    assert len(keys) == 14


def test_many_clients_are_thinned_evenly_with_both_ends(tmp_path):
    assert thin(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert thin(1001, 3).tolist() == [0, 500, 1000]
    at, values = ranked(np.arange(1000)[::-1], 5)
    assert (at[0], at[-1], values[0], values[-1]) == (0, 999, 0, 999)
    run = open_run(make_run(tmp_path / "run", clients=1000, rounds=1, diverging=None))
    chart = plots_data.labels(run)
    assert len(chart.figure.data[0].z) == 400
    assert "400 of 1,000 clients are drawn" in chart.says


def test_text_of_users_is_shown_and_not_obeyed():
    assert text("<b>a</b> & %{x}") == "&lt;b&gt;a&lt;/b&gt; &amp; % {x}"
    assert text("a\n b") == "a b"
    assert apart(["a", "b", "a", "a"]) == ["a", "b", "a [2]", "a [3]"]
