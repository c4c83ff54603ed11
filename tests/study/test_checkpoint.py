"""Checkpoints hold everything, write little, and never leave a broken folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.methods.fedper import FedPer
from atoll.study.checkpoint import MERGED, Checkpoint, replace
from tests.harness import assert_same, begin, small_digits

CLIENTS = 12


class InTurn:
    """Asks two clients per round; client 0 in the first round only, so its state is in the oldest file for ever."""

    def choose(self, fed):
        return np.array([0, 1]) if fed.round == 1 else 1 + np.array([fed.round % 11, (fed.round + 3) % 11])


def training():
    return begin(FedPer(batch=4), small_digits(CLIENTS), selector=InTurn())


def test_every_private_state_comes_back_after_many_rounds(tmp_path):
    made, kept = training(), Checkpoint(tmp_path)
    made.start()
    kept.save(made, set(), [], [], "running")
    for _ in range(3 * MERGED + 2):
        cost = made.step()
        kept.save(made, made.fed.traffic.answered, [cost], [], "running")
        files = sorted(path.name for path in tmp_path.glob("private-*"))
        assert len(files) <= 2 * MERGED
    again = training()
    opened = Checkpoint(tmp_path)
    opened.restore(again)
    assert again.round == made.round == opened.round
    assert_same(made.server, again.server)
    old, new = made.engine.executor.dump_states(), again.engine.executor.dump_states()
    assert old.keys() == new.keys() == set(range(CLIENTS))
    assert_same(old, new)
    assert len(opened.records()[0]) == made.round
    # and goes on saving where it stopped
    cost = again.step()
    opened.save(again, again.fed.traffic.answered, [cost], [], "done")
    third = training()
    Checkpoint(tmp_path).restore(third)
    assert_same(again.engine.executor.dump_states(), third.engine.executor.dump_states())


def test_a_checkpoint_writes_the_states_that_changed_and_no_others(tmp_path):
    made, kept = training(), Checkpoint(tmp_path)
    made.start()
    kept.save(made, set(), [], [], "running")
    made.step()
    kept.save(made, made.fed.traffic.answered, [], [], "running")
    first = (tmp_path / "private-000001-0").stat().st_size
    made.step()
    kept.save(made, made.fed.traffic.answered, [], [], "running")
    assert abs((tmp_path / "private-000002-0").stat().st_size - first) < 0.1 * first


def test_a_crash_before_the_manifest_changes_nothing(tmp_path, monkeypatch):
    made, kept = training(), Checkpoint(tmp_path)
    made.start()
    made.step()
    kept.save(made, made.fed.traffic.answered, [], [], "running")
    before = made.server
    made.step()

    def crash(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("atoll.study.checkpoint.replace", crash)
        with pytest.raises(OSError, match="disk full"):
            kept.save(made, made.fed.traffic.answered, [], [], "running")
    again = training()
    Checkpoint(tmp_path).restore(again)
    assert again.round == 1
    assert_same(before, again.server)


def test_replacing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    replace(path, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        replace(path, b"new")
    assert path.read_bytes() == b"old"


def test_another_format_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(AtollError, match="format 99"):
        Checkpoint(tmp_path)
