"""The measures against calculations by hand."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import integrate

from atoll import metrics
from tests.report.make_run import CLIENT_TYPES, ROUND_TYPES


def clients(*rows: dict) -> pl.DataFrame:
    """Rows of clients.parquet; what is not given is a seen client's personal model on 10 test rows."""
    plain = {"method": "A", "round": 1, "client": 0, "seen": True, "joined": True, "split": "test", "model": "personal"}
    plain |= {"rows": 10, "correct": 5.0, "loss": 1.0}
    return pl.DataFrame([{**plain, **row} for row in rows], schema=CLIENT_TYPES, orient="row")


def rounds(*rows: dict) -> pl.DataFrame:
    """Rows of rounds.parquet; what is not given is 0."""
    plain = {name: "A" if kind == pl.String else 0 for name, kind in ROUND_TYPES.items()}
    return pl.DataFrame([{**plain, **row} for row in rows], schema=ROUND_TYPES, orient="row")


def validation(r: int, *correct: float, **more) -> list[dict]:
    """A client per number, each with 10 validation rows."""
    return [{"round": r, "client": i, "split": "validation", "correct": c, **more} for i, c in enumerate(correct)]


def at(frame: pl.DataFrame, method: str, column: str):
    return frame.filter(pl.col("method") == method)[column][0]


# The round that counts


def test_the_round_is_chosen_on_validation_rows_and_test_rows_have_no_say():
    rows = [*validation(0, 1, 1), *validation(1, 8, 6), *validation(2, 6, 6)]
    tests = [{"round": 0, "correct": 10.0}, {"round": 1, "correct": 0.0}, {"round": 2, "correct": 9.0}]
    chosen = metrics.choose(clients(*rows, *tests), regression=False)
    assert chosen.row(0) == ("A", 1, pytest.approx(14 / 20), 2)
    for spoiled in ([], [{**row, "correct": 0.0} for row in tests], [{**row, "rows": 1000, "correct": 1000.0} for row in tests]):
        assert metrics.choose(clients(*rows, *spoiled), regression=False).equals(chosen)


def test_of_equal_rounds_the_earliest_counts_even_round_0():
    assert at(metrics.choose(clients(*validation(2, 7), *validation(1, 7), *validation(3, 7)), regression=False), "A", "round") == 1
    assert at(metrics.choose(clients(*validation(1, 3), *validation(0, 3)), regression=False), "A", "round") == 0


def test_for_regression_the_lowest_loss_counts():
    rows = [{"round": r, "split": "validation", "correct": math.nan, "loss": loss} for r, loss in enumerate((4.0, 2.0, 3.0))]
    assert metrics.choose(clients(*rows), regression=True).row(0) == ("A", 1, pytest.approx(0.2), 2)


def test_every_validation_row_counts_alike():
    """9 of 10 and 0 of 90 right: 9 / 100, not the mean of shares 0.45."""
    rows = [{"split": "validation", "client": 0, "correct": 9.0}, {"split": "validation", "client": 1, "rows": 90, "correct": 0.0}]
    assert at(metrics.validation_scores(clients(*rows), regression=False), "A", "score") == pytest.approx(0.09)


def test_clients_held_out_and_common_models_do_not_choose():
    rows = [*validation(1, 5), *validation(2, 4)]
    others = [*validation(2, 10, seen=False), *validation(2, 10, model="global")]
    assert at(metrics.choose(clients(*rows, *others), regression=False), "A", "round") == 1


def test_rounds_whose_score_is_not_finite_are_passed_over():
    assert at(metrics.choose(clients(*validation(1, 2), *validation(2, math.nan)), regression=False), "A", "round") == 1


def test_without_validation_rows_the_last_round_counts():
    assert metrics.choose(clients({"round": 1}, {"round": 4}), regression=False).row(0) == ("A", 4, None, 4)


# How well clients are served


def scored(*pairs: tuple[int, float], method: str = "A") -> pl.DataFrame:
    """Scores of clients: (rows, number right) each."""
    rows = [{"method": method, "client": i, "rows": n, "correct": float(c)} for i, (n, c) in enumerate(pairs)]
    return metrics.client_scores(clients(*rows), pl.DataFrame({"method": [method], "round": [1]}), regression=False)


def test_weighted_and_mean_tell_different_stories():
    """8 of 10 right and 10 of 90 right: 18 % of rows, but (0.8 + 1/9) / 2 of clients; std of two numbers is their distance over the root of 2."""
    row = metrics.summary(scored((10, 8), (90, 10)), regression=False).row(0, named=True)
    assert row["weighted"] == pytest.approx(0.18)
    assert row["mean"] == pytest.approx((0.8 + 1 / 9) / 2)
    assert row["std"] == pytest.approx((0.8 - 1 / 9) / math.sqrt(2))
    assert row["clients"] == 2


@pytest.mark.parametrize(("n", "tenth"), [(1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (200, 20)])
def test_the_worst_tenth_is_rounded_up(n, tenth):
    """Client i gets i of 1000 right, so the worst tenth has the mean (tenth - 1) / 2 thousandths."""
    row = metrics.summary(scored(*((1000, i) for i in reversed(range(n)))), regression=False).row(0, named=True)
    assert row["worst"] == pytest.approx((tenth - 1) / 2 / 1000)


def test_for_regression_the_worst_have_the_highest_loss():
    rows = clients(*({"client": i, "correct": math.nan, "loss": 10.0 * i} for i in range(20)))
    scores = metrics.client_scores(rows, pl.DataFrame({"method": ["A"], "round": [1]}), regression=True)
    assert at(metrics.summary(scores, regression=True), "A", "worst") == pytest.approx((18 + 19) / 2)


def test_one_client_has_no_spread():
    assert metrics.summary(scored((10, 8)), regression=False).row(0) == ("A", 1, 0.8, 0.8, None, 0.8, 0.8, 0.8, 0.8)


def test_percentiles_over_clients():
    """Eleven clients with scores 0, .1, ... 1: the percentiles are scores of clients; of 0, .1, .4 they lie between: .02, .1, .34."""
    found = metrics.summary(scored(*((10, n) for n in range(11))), regression=False)
    assert found.select("p10", "median", "p90").row(0) == pytest.approx((0.1, 0.5, 0.9))
    assert metrics.summary(scored((10, 0), (10, 1), (10, 4)), regression=False).select("p10", "median", "p90").row(0) == pytest.approx((0.02, 0.1, 0.34))


# How soon it is good enough


def test_what_it_takes_to_the_target_by_hand():
    """Two clients take part. A is at .7 after round 2: 2 x (10 + 30) bytes and 2 x 7 steps / 2 clients; B never is; C was before training."""
    rows = [*validation(0, 1, 3), *validation(2, 6, 8), *validation(4, 9, 9)]
    rows += [{**row, "method": "B", "correct": 6.0} for row in rows]
    rows += [{**row, "method": "C", "correct": 7.0} for row in validation(0, 7, 7)]
    spent = {"bytes_down": 10, "bytes_up": 30, "steps": 7, "flops": 5.0}
    costs = [{"method": m, "round": r, **spent, "sim_seconds": 2.0 * (m == "A")} for m in "AB" for r in (1, 2, 3, 4)]
    found = metrics.to_target(clients(*rows), rounds(*costs), 0.7, regression=False, seen=2)
    assert found.rows() == [("A", 2, 7.0, 40.0, 5.0, 4.0), ("B", None, None, None, None, None), ("C", 0, 0.0, 0.0, 0.0, None)]
    assert metrics.to_target(clients(*rows), rounds(*costs), 0.7, regression=False, seen=2, since=3)["rounds"].to_list() == [4, None, None]
    assert metrics.to_target(clients(*rows), rounds(*costs), None, regression=False, seen=2)["rounds"].null_count() == 3


def test_losses_reach_a_target_from_above():
    rows = [{"round": r, "split": "validation", "loss": loss} for r, loss in ((0, 30.0), (1, 20.0), (2, 5.0))]
    assert metrics.to_target(clients(*rows), rounds({"round": 1}, {"round": 2}), 1.0, regression=True, seen=1)["rounds"].to_list() == [2]


def test_the_front_of_costs_and_gains():
    """Point 1 costs more than 0 and gains less; 3 costs as much as 2 and gains less; 4 gains more than all; 5 gains what 2 does for more."""
    assert metrics.front([0, 1, 2, 2, 9, 3], [5, 4, 7, 6, 8, 7]) == [0, 2, 4]
    assert metrics.front([2, 2], [1, 1]) == [0]


def test_a_score_that_is_not_finite_leaves_no_summary():
    row = metrics.summary(scored((10, 8), (10, math.nan)), regression=False).row(0, named=True)
    assert [row[name] for name in ("weighted", "mean", "std", "worst")] == [None] * 4


def test_scores_are_of_the_round_given_and_of_clients_with_rows():
    without, held_out = {"round": 2, "client": 1, "rows": 0, "correct": 0.0}, {"round": 2, "client": 2, "seen": False}
    rows = clients({"round": 1, "correct": 1.0}, {"round": 2, "correct": 7.0}, without, held_out)
    chosen = pl.DataFrame({"method": ["A"], "round": [2]})
    assert metrics.client_scores(rows, chosen, regression=False)["score"].to_list() == [0.7]
    assert metrics.client_scores(rows, chosen, regression=False, seen=False)["client"].to_list() == [2]


@pytest.mark.parametrize("regression", [False, True])
def test_forgotten_is_what_personal_models_are_worse_on_rows_of_all_clients(regression):
    def on(method: str, model: str, **score) -> list[dict]:
        return [{"method": method, "client": i, "model": model, "split": "mix", **score} for i in range(2)]

    common = {"correct": 8.0, "loss": 2.0}
    rows = [*on("A", "personal", correct=3.0, loss=7.0), *on("A", "global", **common), *on("Local", "personal", **common), {"method": "B", "correct": 0.0}]
    chosen = pl.DataFrame({"method": ["A", "Local", "B"], "round": [1, 1, 1]})
    scores = [metrics.client_scores(clients(*rows), chosen, regression=regression, model=model, split="mix") for model in ("personal", "global")]
    found = metrics.forgotten(*scores, regression=regression)
    assert found.rows() == [("A", pytest.approx(0.5))]


def test_hurt_compares_each_client_with_itself_and_a_tie_does_not_hurt():
    """Local 5, 5, 5, 5 right; A 4, 5, 6, 0: two of four are worse off, though the mean hides who."""
    both = pl.concat([scored((10, 5), (10, 5), (10, 5), (10, 5), method="Local"), scored((10, 4), (10, 5), (10, 6), (10, 0))])
    found = metrics.hurt(both, "Local", regression=False)
    assert at(found, "A", "hurt") == 0.5
    assert at(found, "Local", "hurt") is None


def test_for_regression_a_higher_loss_hurts():
    both = pl.concat([scored((1, 5), (1, 5), method="Local"), scored((1, 4), (1, 6))])
    assert at(metrics.hurt(both, "Local", regression=True), "A", "hurt") == 0.5
    both = pl.concat([scored((1, 5), (1, 5), method="Local"), scored((1, 4), (1, 5))])
    assert at(metrics.hurt(both, "Local", regression=True), "A", "hurt") == 0.0


# Methods against each other


def test_paired_by_hand():
    """Gains 0.2, -0.1, 0 and 0.3: mean 0.1, variance ((.1)² + (.2)² + (.1)² + (.2)²) / 3 = 1/30, error sqrt(1/30) / 2; weighted: (17 - 13) / 40."""
    a, b = scored((10, 5), (10, 3), (10, 4), (10, 5)), scored((10, 3), (10, 4), (10, 4), (10, 2), method="B")
    pair = metrics.paired(pl.concat([a, b]), "A", "B", regression=False)
    assert pair is not None
    assert (pair.better, pair.equal, pair.worse, pair.clients) == (2, 1, 1, 4)
    assert pair.mean == pytest.approx(0.1)
    assert pair.error == pytest.approx(math.sqrt(1 / 30) / 2)
    assert pair.weighted == pytest.approx(4 / 40)
    lower = metrics.paired(pl.concat([a, b]), "A", "B", regression=True)
    assert lower is not None
    assert (lower.better, lower.worse, lower.mean) == (1, 2, pytest.approx(-0.1))


def test_paired_takes_only_clients_that_both_have():
    both = pl.concat([scored((10, 5)), scored((10, 3), (10, 4), method="B")])
    pair = metrics.paired(both, "A", "B", regression=False)
    assert pair is not None
    assert pair.clients == 1
    assert math.isnan(pair.error)
    assert metrics.paired(both, "A", "C", regression=False) is None


def test_methods_coincide_only_if_every_client_does():
    rows = [{"method": m, "client": i, "correct": 5.0, "loss": 1.25} for m in "ABC" for i in range(2)]
    assert metrics.coincide(clients(*rows)) == [("A", "B", "C")]
    rows[0]["loss"] = 1.25 * (1 + 1e-7)
    assert metrics.coincide(clients(*rows)) == [("A", "B", "C")]
    rows[0]["loss"] = 1.2502
    assert metrics.coincide(clients(*rows)) == [("B", "C")]
    rows[5]["correct"] = 4.0
    assert metrics.coincide(clients(*rows)) == []


def test_methods_that_are_alike_before_training_only_do_not_coincide():
    rows = [{"method": m, "round": r, "correct": 5.0 if r == 0 else float(ord(m) % 7)} for m in "AB" for r in (0, 1)]
    assert metrics.coincide(clients(*rows)) == []


def test_the_interval_over_seeds_is_students():
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt 3. The quantile of t with 2 degrees is found by integrating its density, 1 / (2 + x²)^(3/2)."""
    gap = metrics.repeated([3, 4, 5], [2, 2, 2], regression=False)
    reach = (gap.high - gap.low) / 2 * math.sqrt(3)
    assert (gap.mean, gap.pairs) == (2, 3)
    assert integrate.quad(lambda x: (2 + x * x) ** -1.5, -reach, reach)[0] == pytest.approx(0.95, abs=1e-9)
    assert (gap.low + gap.high) / 2 == pytest.approx(2)
    assert metrics.repeated([3, 4, 5], [2, 2, 2], regression=True).mean == -2
    assert metrics.repeated([3], [2], regression=False).high == math.inf


# Costs


def test_costs_by_hand():
    """Two rounds, 2 and 1 clients answer, 10 bytes down and 4 up each; 5 seen clients; the first round counts."""
    made = rounds(
        {"round": 1, "answered": 2, "bytes_down": 20, "bytes_up": 8, "flops": 100.0, "steps": 6, "seconds": 1.0, "private_bytes": 7, "peak_memory": 90},
        {"round": 2, "answered": 1, "bytes_down": 10, "bytes_up": 4, "flops": 50.0, "steps": 3, "seconds": 2.0, "private_bytes": 9, "peak_memory": 80},
    )
    row = metrics.costs(made, pl.DataFrame({"method": ["A"], "round": [1]}), clients=5).row(0, named=True)
    expected = {
        "down_round": 10, "up_round": 4, "bytes_round": 14, "numbers_round": 3.5, "bytes_client": 42 / 5, "bytes_chosen": 28 / 5, "flops_client": 150 / 5,
        "flops": 150, "steps": 9, "seconds": 3, "cpu_seconds": 0, "eval_seconds": 0, "sim_seconds": None, "private_bytes": 9, "peak_memory": 90,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_what_was_asked_before_the_first_round_counts_in_sums_alone():
    made = rounds(
        {"round": 0, "answered": 3, "bytes_down": 300, "bytes_up": 600, "seconds": 5.0},
        {"round": 1, "answered": 2, "bytes_down": 20, "bytes_up": 8, "seconds": 1.0},
    )
    row = metrics.costs(made, pl.DataFrame({"method": ["A"], "round": [1]}), clients=4).row(0, named=True)
    expected = {"down_round": 10, "up_round": 4, "bytes_round": 14, "bytes_client": 928 / 4, "bytes_chosen": 928 / 4, "seconds": 6}
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_nobody_answered_so_nobody_knows_the_bytes_of_a_client():
    row = metrics.costs(rounds({"round": 1, "cohort": 3}), pl.DataFrame({"method": ["A"], "round": [1]}), clients=3).row(0, named=True)
    assert (row["bytes_round"], row["bytes_client"]) == (None, 0.0)


def test_state_is_shared_among_clients_that_have_one():
    made = rounds({"method": "A", "round": 1, "private_bytes": 100}, {"method": "A", "round": 2, "private_bytes": 300}, {"method": "B", "round": 2})
    rows = [{"method": m, "round": 2, "client": i, "joined": i < 3} for m in "AB" for i in range(4)]
    found = metrics.state_per_client(made, clients(*rows))
    assert (at(found, "A", "state_client"), at(found, "B", "state_client")) == (100.0, 0.0)


def test_convergence_counts_bytes_so_far():
    made = rounds({"round": 1, "bytes_down": 6, "bytes_up": 4}, {"round": 2, "bytes_down": 6, "bytes_up": 4}, {"round": 3, "bytes_down": 6, "bytes_up": 4})
    found = metrics.convergence(clients(*validation(0, 1), *validation(1, 2), *validation(3, 4)), made, regression=False, seen=5)
    assert found["bytes_client"].to_list() == [0.0, 2.0, 6.0]
    assert np.allclose(found["score"].to_list(), [0.1, 0.2, 0.4])


def test_mean_loss_by_hand():
    rows = clients({"client": 0, "rows": 10, "loss": 5.0}, {"client": 1, "rows": 30, "loss": 3.0})
    assert metrics.mean_loss(rows, pl.DataFrame({"method": ["A"], "round": [1]})).row(0) == ("A", pytest.approx(8 / 40))
