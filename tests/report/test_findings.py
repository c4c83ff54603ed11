"""What the report says in words, in made-up situations whose right reading is known."""

import pytest

from atoll.report.digest import Digest, digest
from atoll.report.findings import ONE_RUN, footnotes, verdict, warnings
from atoll.report.run import open_run
from atoll.study.verified import FAILS, Checked, Verification
from tests.report.exact_run import Given, base, exact_run, flat


@pytest.fixture
def read(tmp_path):
    """A digest of a run with these methods."""

    def make(methods: dict[str, Given], **more) -> Digest:
        return digest(open_run(exact_run(tmp_path / "run", methods, **more)))

    return make


def test_the_verdict_is_on_the_method_picked_by_validation_against_both_baselines(read):
    """Of 2 x 10 test rows New has 15 right, FedAvg+FT 13, Local 14; the first client has 7 with New and 8 alone. Tempting is better on test rows only."""
    d = read(
        {"Local": base(8, 6), "FedAvg+FT": base(6, 7), "New": flat(7, 8, validation=7), "Tempting": flat(9, 9, validation=6)},
    )
    found = verdict(d)
    assert found.line == "New is 10.0 points better than FedAvg+FT and 5.0 points better than Local; 1 of 2 clients (50.0 %) is worse off with it than alone."
    assert found.details[0] == "New was picked among the methods by its validation score; it has 75.0 % accuracy on test rows."
    assert found.details[1].startswith("Against FedAvg+FT, client by client: better for 2, equal for 0, worse for 0; mean gain +10.0 ± 0.0 points")
    # gains -10 and +20 points: mean 5, standard error 15, so they do not agree
    assert "worse for 1; mean gain +5.0 ± 15.0 points (standard error over clients), so clients do not agree enough" in found.details[2]
    assert found.details[-1] == ONE_RUN


def test_a_method_that_loses_is_said_to_lose(read):
    found = verdict(read({"Local": base(8, 8), "FedAvg+FT": base(9, 9), "New": flat(7, 8)}))
    assert found.line.startswith("New is 15.0 points worse than FedAvg+FT and 5.0 points worse than Local; 1 of 2 clients")


def test_level_methods_and_nobody_hurt(read):
    found = verdict(read({"Local": base(5, 5), "FedAvg": base(6, 6), "New": flat(6, 6)}))
    assert found.line == "New is level with FedAvg and 10.0 points better than Local; no client is worse off with it than alone."


def test_regression_speaks_of_loss_and_lower_is_better(read):
    """Summed losses over 10 rows: Local 4, New 3 for each client: 0.1 lower, 25 % of 0.4."""

    def ends(loss: float, baseline: bool) -> Given:
        return Given({0: [9.0, 9.0], 1: [loss, loss]}, {0: 9.0, 1: loss}, baseline=baseline)

    d = read({"Local": ends(4, True), "New": ends(3, False)}, regression=True)
    assert d.regression
    assert verdict(d).line == "New is better than Local by 0.1000 of mean loss (25.0 %); no client is worse off with it than alone."
    assert "mean loss 0.3000" in verdict(d).details[0]
    assert "validation mean loss" in footnotes(d)[0]


def test_only_baselines(read):
    d = read({"Local": base(5, 5), "FedAvg": base(6, 6)})
    assert verdict(d).line == "Only baselines have results; the best of them on validation rows is FedAvg with 60.0 % accuracy."


def test_no_baseline(read):
    found = verdict(read({"New": flat(6, 6)}))
    assert found.line == "New is the best method on validation rows, with 60.0 % accuracy on test rows; no baseline to compare it with."


def test_nothing_has_a_result(read):
    d = read({"New": flat(6, 6, state="diverged", why="the loss stopped being a finite number")})
    assert verdict(d).line == "No method has a result."


def test_a_diverged_run_is_named_first_and_has_no_score(read):
    why = "the loss stopped being a finite number by round 1"
    d = read({"Local": base(9, 9), "New": flat(5, 5), "Bad": flat(10, 10, state="diverged", why=why)})
    assert warnings(d)[0] == f"Bad diverged at round 1: {why}. It has no result; a smaller learning rate may help."
    assert d.value("Bad", "accuracy") is None
    assert d.best() == "New"


def test_a_run_that_has_not_ended_says_so(read):
    d = read({"New": flat(5, 5, state="running")})
    assert warnings(d) == ["New: stopped at round 1 of 1. Its numbers are not final; `atoll resume` continues the run."]


@pytest.mark.parametrize(("local", "said"), [(8, True), (7, True), (6, False)])
def test_local_as_good_as_every_method_is_a_warning(read, local, said):
    """The best method has 7 of 10 right for each client."""
    found = warnings(read({"Local": base(local, local), "New": flat(7, 7), "Other": flat(5, 5)}))
    text = f"Local ({10 * local}.0 % accuracy) is at least as good as every method (best: New, 70.0 % accuracy): federation brought nothing here."
    assert (text in found) == said


def test_majority_as_good_as_every_method_is_a_warning(read):
    found = warnings(read({"Majority": base(9, 9), "New": flat(7, 7)}))
    assert found == ["Majority (90.0 % accuracy) is at least as good as every method (best: New, 70.0 % accuracy): a constant answer per client does as well."]


def test_an_identity_that_fails_is_a_warning(read):
    d = read({"Local": base(5, 5), "New": flat(7, 7)})
    assert warnings(d) == []
    one = Checked("New", {"mu": 0.0}, "FedAvg", {}, {}, "personal", 0, "it is", FAILS, difference=0.25, share=0.5, rows_apart=3)
    (d.run.folder / "identities.json").write_text(Verification((one,), (), (), 2, 0).json())
    assert warnings(d) == ["An identity fails: New (mu=0) should score as FedAvg does, and a client's mean loss differs by 0.25."]


def test_what_is_left_to_gain_over_the_best_baseline(read):
    """FedAvg+FT has 16 of 20 right in validation, and Local 14; on test rows 15."""
    d = read({"Local": base(9, 9, validation=7), "FedAvg+FT": base(7, 8, validation=8), "New": flat(9, 9)})
    assert "FedAvg+FT, the best baseline on validation rows, has 75.0 %, so that at most 25.0 points are to be gained." in verdict(d).details


def test_local_is_found_where_it_was_run_with_settings(read):
    d = read({"Local (lr=0.1)": base(5, 5), "Local (lr=1)": base(4, 4), "New": flat(7, 7)})
    assert "better than Local (lr=0.1)" in verdict(d).line
    assert d.value("Local (lr=1)", "hurt_local") == 1.0


def test_methods_that_coincide_are_flagged(read):
    found = warnings(read({"Local": base(4, 4), "A": flat(5, 6), "B": flat(6, 5), "C": flat(5, 6)}))
    assert found == ["A and C coincide exactly for every client: a part in which they differ may be switched off."]


def test_a_method_that_is_best_before_training(read):
    d = read({"New": Given({0: [7.0, 7.0], 1: [6.0, 6.0]}, {0: 7.0, 1: 6.0})})
    assert warnings(d) == ["New: best before training, so training did not help."]
    assert d.value("New", "accuracy") == 0.7
    assert d.value("New", "last_accuracy") == 0.6


def test_fine_tuning_that_is_best_before_the_model_was_trained(read):
    d = read({"Local": base(5, 5), "FedAvg+FT": Given({0: [7.0, 7.0], 1: [6.0, 6.0]}, {0: 7.0, 1: 6.0}, baseline=True), "New": flat(8, 8)})
    assert warnings(d) == ["FedAvg+FT: best before training, so training did not help."]


def test_clients_that_never_trained_are_counted_and_said(read):
    found = warnings(read({"A": flat(5, 6, 7, joined=2), "B": flat(4, 6, 7, joined=2), "C": flat(3, 4, 5)}))
    assert found == ["1 of 3 seen clients had never trained with A and B by the round that counts; they count with what they had at first contact."]


def test_footnotes_say_how_the_round_was_chosen_and_who_may_still_improve(read):
    early = Given({0: [1.0], 1: [8.0], 2: [9.0]}, {0: 1.0, 1: 8.0, 2: 7.0})
    late = Given({0: [1.0], 1: [8.0], 2: [7.0]}, {0: 1.0, 1: 7.0, 2: 8.0})
    d = read({"Early": early, "Late": late})
    found = footnotes(d)
    assert found[0].startswith("Round: the one with the best sample-weighted validation accuracy")
    assert found[0].endswith("Test rows take no part.")
    assert found[-1] == "Still best at the last round, so more rounds may help: Late."
    assert (d.value("Early", "accuracy"), d.value("Late", "accuracy")) == (0.8, 0.7)


def test_clients_held_out_have_columns_of_their_own(read):
    d = read({"Local": base(5, 5, unseen=[2.0]), "New": flat(7, 7, unseen=[4.0, 9.0])})
    assert d.value("New", "accuracy") == 0.7
    assert d.value("New", "unseen_accuracy") == pytest.approx(0.65)
    assert d.value("New", "unseen_clients") == 2
    assert d.value("New", "clients") == 2


def test_one_client(read):
    d = read({"Local": base(5), "New": flat(7)})
    found = verdict(d)
    assert found.line == "New is 20.0 points better than Local; no client is worse off with it than alone."
    assert found.details[1] == "Against Local, client by client: better for 1, equal for 0, worse for 0; mean gain +20.0 points."
    assert d.value("New", "accuracy_std") is None


def test_two_hundred_clients(read):
    """Every tenth client loses: 20 of 200. The worst tenth are those 20."""
    right = [4.0 if i % 10 == 0 else 8.0 for i in range(200)]
    d = read({"Local": base(*[5.0] * 200), "New": flat(*right)})
    assert "20 of 200 clients (10.0 %) are worse off with it than alone." in verdict(d).line
    assert d.value("New", "accuracy_worst") == pytest.approx(0.4)
    assert d.value("New", "accuracy_mean") == pytest.approx(0.76)
