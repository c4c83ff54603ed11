"""The command line: what it does, what it says, and how it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from atoll import cli
from atoll.report.table import comparison

QUICK = ["--model", "mlp:8", "--rounds", "3", "--no-baselines"]


@pytest.fixture
def atoll(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder; returns (exit code, output, error output)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atoll", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_a_run_leaves_a_folder_and_prints_a_table(atoll, tmp_path):
    code, out, err = atoll("run", *QUICK, "-m", "fedavg", "-m", "fedper", "--set", "lr=0.1", "--set", "fedper.personal=1", "--out", "r")
    assert (code, err) == (0, "")
    assert "FedAvg" in out
    assert "FedPer" in out
    assert "report.html" in out
    folder = tmp_path / "r"
    files = {"spec.toml", "environment.json", "data.json", "status.json", "rounds.parquet", "clients.parquet", "report.html"}
    assert files <= {p.name for p in folder.iterdir()}
    status = json.loads((folder / "status.json").read_text())
    assert {name: s["state"] for name, s in status.items()} == {"FedAvg": "done", "FedPer": "done"}
    assert pl.read_parquet(folder / "clients.parquet")["round"].unique().sort().to_list() == [0, 1, 2, 3]
    assert "lr" in (folder / "spec.toml").read_text()


def test_a_run_can_be_repeated_from_its_specification(atoll, tmp_path):
    assert atoll("run", *QUICK, "-m", "fedper", "--seed", "3", "--out", "a")[0] == 0
    assert atoll("run", "a/spec.toml", "--out", "b")[0] == 0
    tables = [pl.read_parquet(tmp_path / name / "clients.parquet") for name in "ab"]
    assert tables[0].equals(tables[1], null_equal=True)


def test_baselines_come_first_and_once(atoll, tmp_path):
    assert atoll("run", "--model", "mlp:8", "--rounds", "2", "-m", "fedper", "-m", "fedavg", "--out", "r")[0] == 0
    assert list(json.loads((tmp_path / "r" / "status.json").read_text())) == ["Majority", "Local", "FedAvg", "FedAvg+FT", "FedPer"]


def test_a_method_with_fine_tuning_is_reported_before_and_after(atoll, tmp_path):
    asked = ["-m", "fedprox", "-m", "fedprox+ft", "-m", "pfedme+ft", "--set", "fedprox+ft.ft_epochs=2", "--set", "fedprox+ft.ft_what=head", "--set", "mu=0.3"]
    code, out, err = atoll("run", *QUICK, *asked, "--out", "r")
    assert (code, err) == (0, "")
    assert "FedProx+FT" in out
    status = json.loads((tmp_path / "r" / "status.json").read_text())
    assert status["FedProx+FT"]["family"] == "regularized loss"
    table = pl.read_parquet(tmp_path / "r" / "clients.parquet")
    kinds = {name: table.filter(method=name)["model"].unique().sort().to_list() for name in status}
    assert kinds == {"FedProx": ["global", "personal"], "FedProx+FT": ["global", "personal"], "pFedMe+FT": ["before", "global", "personal"]}
    common = [table.filter(method=name, model="global").drop("method") for name in ("FedProx", "FedProx+FT")]
    assert common[0].equals(common[1], null_equal=True)
    shown = comparison(tmp_path / "r")
    for column, there in (("accuracy", [True, True, True]), ("global_accuracy", [True, True, True]), ("before_accuracy", [False, False, True])):
        assert shown[column].is_not_null().to_list() == there
    assert "before" in out
    assert atoll("run", "r/spec.toml", "--out", "again")[0] == 0
    assert table.equals(pl.read_parquet(tmp_path / "again" / "clients.parquet"), null_equal=True)


def test_methods_say_what_can_be_put_around_them(atoll):
    assert "NAME+ft" in atoll("methods")[1]
    code, out, _ = atoll("methods", "scaffold+ft")
    assert code == 0
    assert "SCAFFOLD+FT" in out
    assert "server_lr" in out
    assert "ft_epochs" in out


def test_a_folder_is_never_overwritten(atoll):
    assert atoll("run", *QUICK, "-m", "fedavg", "--out", "r")[0] == 0
    code, _, err = atoll("run", *QUICK, "-m", "fedavg", "--out", "r")
    assert code == 2
    assert "atoll resume r" in err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run", "-m", "fedprx"], "Did you mean fedprox"),
        (["run", "--data", "digit"], "Did you mean digits"),
        (["run", "--model", "ml"], "Did you mean mlp"),
        (["run", "--engine", "simulator"], "Did you mean simulate"),
        (["run", "-m", "fedavg", "--set", "lrr=0.1"], "Did you mean lr"),
        (["run", "-m", "fedavg", "--set", "fedavg.epoch=2"], "Did you mean epochs"),
        (["run", "-m", "fedavg", "--set", "lr"], "name=value"),
        (["run", "-m", "fedavg", "--set", "lr=fast"], "number"),
        (["run", "-m", "fedavg", "--set", "lr=-1"], "lr must be > 0"),
        (["run", "-m", "fedavg", "--set", "batch=2.5"], "whole number"),
        (["run", "-m", "fedavg", "--set", "scaffold.lr=1"], "method of this run"),
        (["run", "--skew", "dirichlet:0"], "dirichlet"),
        (["run", "--skew", "dirichle:1"], "Did you mean dirichlet"),
        (["run", "--rounds", "0"], "rounds"),
        (["run", "--dropout", "1.5"], "dropout"),
        (["run", "--per-round", "99"], "99 clients per round"),
        (["run", "missing.toml"], "missing.toml"),
        (["run", "rows.csv"], "holds data, not a specification"),
        (["run", "-m", "local", "--no-baselines", "--data", "csv"], "needs a file"),
        (["data", "show", "digits", "--private", "0"], "epsilon must be > 0"),
        (["data", "verify", "."], "map.npz"),
        (["run", "--data", "missing.csv", "--client", "a", "--label", "b"], "missing.csv"),
        (["run", "-m", "nowhere:Nothing"], "nowhere"),
        (["run", "-m", "fedmd"], "public"),
        (["run", "-m", "moon", "--model", "softmax"], "hidden layer"),
        (["run", "-m", "moon+ft", "--model", "softmax"], "hidden layer"),
        (["run", "-m", "fedprx+ft"], "Did you mean fedprox"),
        (["run", "-m", "fedprox+tf"], "Unknown wrapper 'tf'. Did you mean ft"),
        (["run", "-m", "majority+ft"], "predicts in a way of its own"),
        (["run", "-m", "fedprox+ft", "--set", "fedprox+ft.ft_steps=3"], "Set the other to 0"),
        (["run", "-m", "fedprox+ft", "--set", "fedprox+ft.ft_epoch=3"], "Did you mean ft_epochs"),
        (["run", "--resample", "smot"], "Did you mean smote"),
        (["run", "-m", "fedavg", "--model", "mlp:8", "--model", "mlp:9"], "several architectures"),
        (["resume", "nothing"], "no run"),
        (["report", "nothing"], "no run"),
        (["methods", "fedprx"], "Did you mean fedprox"),
        (["data", "show", "digit"], "Did you mean digits"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(atoll, tmp_path, args, says):
    code, _, err = atoll(*args)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("atoll: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rounds = ", "TOML"),
        ("# nothing", "empty specification"),
        ("round = 3", "Did you mean rounds"),
        ("[data]\nsorce = 'digits'", "Did you mean source"),
        ("rounds = 'many'", "rounds"),
        ("[[methods]]\nname = 'fedavg'\nlrate = 3", "Did you mean lr"),
    ],
)
def test_bad_specifications_are_explained(atoll, tmp_path, text, says):
    (tmp_path / "spec.toml").write_text(text)
    code, _, err = atoll("run", "spec.toml")
    assert code == 2
    assert says in err
    assert [p.name for p in tmp_path.iterdir()] == ["spec.toml"]


def test_a_diverging_run_is_called_diverged(atoll, tmp_path):
    code, out, _ = atoll("run", *QUICK, "-m", "fedavg", "--set", "lr=1e30", "--out", "r")
    assert code == 0
    assert json.loads((tmp_path / "r" / "status.json").read_text())["FedAvg"]["state"] == "diverged"
    assert "diverged" in out


def test_methods_models_and_sources_are_listed(atoll):
    code, out, _ = atoll("methods")
    assert code == 0
    assert "SCAFFOLD" in out
    code, out, _ = atoll("methods", "scaffold")
    assert code == 0
    assert "server_lr" in out
    assert "Karimireddy" in out
    assert "mlp" in atoll("models")[1]
    assert "digits" in atoll("data", "list")[1]


def test_the_data_sheet(atoll):
    code, out, _ = atoll("data", "show", "digits", "--skew", "dirichlet:0.5", "--clients", "5")
    assert code == 0
    assert "dirichlet" in out
    assert "how clients differ" in out
    code, out, _ = atoll("data", "show", "digits", "--private", "2")
    assert code == 0
    assert "Epsilon 2 per row in all" in out
    assert "0.4 for sizes (noise of scale 2.5 rows), 0.8 for labels (noise of scale 1.25 rows)" in " ".join(out.split())
    code, _, err = atoll("data", "show", "digits", "--private", "-1")
    assert code == 2
    assert "epsilon must be > 0" in err


def test_data_are_exported_and_verified(atoll, tmp_path):
    how = ("--skew", "dirichlet:0.5", "--clients", "4", "--seed", "7")
    code, out, _ = atoll("data", "export", "digits", "--to", "map", *how)
    assert (code, "4 clients, 1,797 rows" in out) == (0, True)
    code, out, _ = atoll("data", "verify", "map/map.npz")
    assert (code, "the same 4 clients and 1,797 rows" in out) == (0, True)
    assert atoll("data", "export", "digits", "--to", "folder", "--format", "pfllib", *how)[0] == 0
    code, out, _ = atoll("data", "show", "pfllib", "--path", "folder")
    assert (code, "4 seen" in out) == (0, True)
    code, _, err = atoll("data", "export", "digits", "--to", "x", "--format", "pflib")
    assert (code, "Did you mean pfllib?" in err) == (2, True)
    code, _, err = atoll("data", "export", "digits", "--to", "map", *how)
    assert (code, "map.npz is there already" in err) == (2, True)


def test_options_of_a_source(atoll):
    code, out, _ = atoll("data", "show", "linear", "--option", "dimension=3", "--option", "clusters=2", "--clients", "4")
    assert (code, "float32 3," in out) == (0, True)
    code, _, err = atoll("data", "show", "linear", "--option", "dimensions=3")
    assert (code, "Did you mean dimension?" in err) == (2, True)
    code, _, err = atoll("data", "show", "linear", "--option", "dimension")
    assert (code, "name=value" in err) == (2, True)


def test_help_is_quick_to_import():
    """Help must not wait for JAX."""
    done = subprocess.run([sys.executable, "-c", "import sys, atoll, atoll.cli; sys.exit('jax' in sys.modules or 'polars' in sys.modules)"], check=False)
    assert done.returncode == 0


def start(folder: Path, *more: str) -> subprocess.Popen:
    code = "from atoll.cli import main; main()"
    args = ["run", "-m", "scaffold", "-m", "fedper", "--model", "mlp:8", "--rounds", "200", "--eval-every", "20", "--no-baselines", "--out", str(folder), *more]
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_round(folder: Path, round: int) -> None:
    manifest = folder / "checkpoints" / "00-scaffold" / "manifest.json"
    for _ in range(1200):
        if manifest.exists() and json.loads(manifest.read_text())["round"] >= round:
            return
        time.sleep(0.05)
    raise AssertionError("the run did not get there in a minute")


@pytest.mark.parametrize("how", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGINT])
def test_a_stopped_run_ends_as_if_it_had_not_stopped(atoll, tmp_path, how):
    whole = start(tmp_path / "whole")
    assert whole.wait() == 0
    stopped = start(tmp_path / "stopped")
    wait_for_round(tmp_path / "stopped", 7)
    os.kill(stopped.pid, how)
    code = stopped.wait()
    assert code == (130 if how == signal.SIGINT else -9)
    assert json.loads((tmp_path / "stopped" / "status.json").read_text())["FedPer"]["state"] == "waiting"
    assert atoll("resume", "stopped")[0] == 0
    a, b = (pl.read_parquet(tmp_path / name / "clients.parquet") for name in ("whole", "stopped"))
    assert a.equals(b, null_equal=True)
    drop = ["seconds", "cpu_seconds", "eval_seconds", "peak_memory"]
    a, b = (pl.read_parquet(tmp_path / name / "rounds.parquet").drop(drop) for name in ("whole", "stopped"))
    assert a.equals(b)


def test_resuming_refuses_other_data(atoll, tmp_path):
    assert atoll("run", *QUICK, "-m", "fedavg", "--out", "r")[0] == 0
    sheet = json.loads((tmp_path / "r" / "data.json").read_text())
    (tmp_path / "r" / "data.json").write_text(json.dumps({**sheet, "split_hash": "0" * 64}))
    code, _, err = atoll("resume", "r")
    assert code == 2
    assert "changed" in err


def test_devices_give_a_run_its_clock(atoll, tmp_path):
    """The column is in the table of a run with devices, and in no other."""
    code, out, err = atoll("run", *QUICK, "-m", "fedavg", "--devices", "tiers", "--deadline", "60", "--out", "r")
    assert (code, err) == (0, "")
    assert "simulated" in out
    seconds = pl.read_parquet(tmp_path / "r" / "rounds.parquet")["sim_seconds"].to_list()
    assert all(0 < s <= 60 for s in seconds)
    assert "simulated" not in atoll("run", *QUICK, "-m", "fedavg", "--out", "other")[1]
    for wrong, what in (("--devices", "phones"), ("--devices", "no.csv"), ("--deadline", "3")):
        code, out, err = atoll("run", *QUICK, "-m", "fedavg", wrong, what, "--out", "never")
        assert (code, err.count("\n")) == (2, 1)
        assert not (tmp_path / "never").exists()


def test_ready_made_studies_are_listed_and_wrong_names_are_refused(atoll, tmp_path):
    assert "survey-label-skew" in atoll("study", "--list")[1]
    assert "Did you mean quick" in atoll("study", "quik")[2]
    (tmp_path / "s.toml").write_text("[base]\nround = 3\n")
    code, _, err = atoll("study", "s.toml")
    assert code == 2
    assert "Did you mean rounds" in err
    assert not (tmp_path / "studies").exists()
    code, _, err = atoll("compare", "nowhere")
    assert code == 2
    assert "neither a run nor a study" in err


def test_an_option_given_several_times_is_a_list():
    assert cli._options(["features=age", "films=300", "features=dose"]) == {"features": ["age", "dose"], "films": 300}
    assert cli._options(['features=["a", "b"]', "features=c"]) == {"features": [["a", "b"], "c"]}
    assert cli._options(["a=1", "a=2", "a=3"]) == {"a": [1, 2, 3]}
