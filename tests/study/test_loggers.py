"""Runs logged as they go: what TensorBoard and MLflow then have."""

import struct

import polars as pl
import pytest

import atoll
from atoll.core.errors import AtollError
from atoll.study.loggers import numbers
from atoll.study.run import execute, open_plan
from atoll.study.training import ROW_TYPES, RoundCost

SMALL = {"clients": 3, "rounds": 2, "model": "softmax", "baselines": False, "skew": "iid"}
COST = dict.fromkeys(RoundCost.__dataclass_fields__, 0)


def events(folder):
    """(round, name, value) of all scalars in the event files of a folder, read record by record: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value if value.HasField("simple_value")]
            at += 16 + size
    return found


def test_numbers_of_a_round():
    """Seen clients only; what makes no sense is left out."""
    plain = {"method": "A", "round": 1, "seen": True, "joined": True, "split": "test", "model": "personal", "rows": 10, "correct": 5.0, "loss": 20.0}
    rows = [{**plain, "client": 0}, {**plain, "client": 1, "rows": 30, "correct": 25.0, "loss": 4.0}, {**plain, "client": 2, "seen": False, "correct": 0.0}]
    found = numbers(RoundCost(**COST | {"method": "A", "flops": 7.0}), pl.DataFrame(rows, schema=ROW_TYPES, orient="row"))
    assert found["test/personal/accuracy"] == 0.75
    assert found["test/personal/loss"] == 0.6
    assert found["cost/flops"] == 7.0
    regression = pl.DataFrame([{**plain, "client": 0, "correct": float("nan")}], schema=ROW_TYPES, orient="row")
    assert set(numbers(RoundCost(**COST | {"method": "A"}), regression)) - {name for name in found if name.startswith("cost/")} == {"test/personal/loss"}


def test_tensorboard_has_the_scores_of_the_run(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    result = atoll.run("digits", ["fedavg"], out=tmp_path / "run", log="tensorboard", eval_every=1, **SMALL)
    found = {(step, tag): value for step, tag, value in events(tmp_path / "run" / "tensorboard" / "FedAvg")}
    rows = result.clients.filter(split="validation", model="personal")
    for r in (1, 2):
        own = rows.filter(round=r)
        assert found[r, "validation/personal/accuracy"] == pytest.approx(own["correct"].sum() / own["rows"].sum())
        assert found[r, "cost/bytes_up"] == result.rounds.filter(round=r)["bytes_up"].item()


def test_mlflow_has_a_run_of_each_method_and_a_resumed_one_goes_on_in_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'store'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    atoll.run("digits", ["fedavg", "local"], out=tmp_path / "run", log=["mlflow"], eval_every=1, **SMALL)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("atoll").experiment_id
    runs = {run.data.tags["atoll.method"]: run for run in client.search_runs([experiment])}
    assert set(runs) == {"FedAvg", "Local"}
    assert runs["FedAvg"].info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(runs["FedAvg"].info.run_id, "validation/personal/accuracy")] == [1, 2]
    execute(open_plan(tmp_path / "run"), tmp_path / "run")  # nothing is left to do, and nothing is begun
    assert len(client.search_runs([experiment])) == 2


def test_an_unknown_logger_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(AtollError, match="Unknown logger 'tensorbord'"):
        atoll.run("digits", ["fedavg"], out=tmp_path / "run", log="tensorbord", **SMALL)
    assert not (tmp_path / "run").exists()
