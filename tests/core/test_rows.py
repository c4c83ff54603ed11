"""What a program sees of its rows, in all engines."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.core.fold import stack
from atoll.core.method import method, on_host, stateless
from atoll.parts.conditions import Conditions
from tests.harness import begin, federation, small_digits, train


class Seen(NamedTuple):
    rows: object  # how often each row was visited
    steps: object
    mean: object
    partial: object


@method
class Look:
    """Counts visits of rows; rows carry their own number."""

    epochs: float = 2.0
    partial_work = True

    def init(self, fed):
        return jnp.zeros(())

    def round(self, s, fed):
        return fed.ask(fed.everyone(), self.look, s, reduce=stack).reply

    def look(self, k, s):
        def count(visits, batch):
            return visits.at[batch.x[:, 0].astype(int)].add(batch.mask)

        visits, steps = k.fold(count, jnp.zeros(40), batch=4, epochs=self.epochs)
        mean = k.mean(lambda rows: (rows.x[:, 0] * rows.mask).sum() / rows.mask.sum())
        draw = k.draw(12, k.key)
        return Seen(visits, steps, mean, draw.mask.sum())

    def personalize(self, k, s):
        return ()

    def predict(self, k, w, x):
        return jnp.zeros((x.shape[0], 2))


def numbered():
    """Clients with 9, 14 and 3 train rows, numbered 0..25."""
    x = np.arange(32, dtype=np.float32)[:, None]
    return federation(x, np.arange(32, dtype=np.int32) % 2, [(9, 1, 1), (14, 1, 1), (3, 1, 1)])


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
def test_every_row_is_visited_once_an_epoch(engine):
    seen = train(Look(), numbered(), 1, models=("softmax",), engine=engine).server
    first = 0
    for i, n in enumerate((9, 14, 3)):
        expected = np.zeros(40)
        expected[first : first + n] = 2
        np.testing.assert_array_equal(seen.rows[i], expected)
        assert seen.steps[i] == 2 * -(-n // 4)
        assert seen.mean[i] == pytest.approx(np.arange(first, first + n).mean())
        assert seen.partial[i] == min(n, 12)
        first += n


def test_a_straggler_does_part_of_the_steps_and_at_least_one():
    seen = train(Look(), numbered(), 1, models=("softmax",), conditions=Conditions(stragglers=1.0)).server
    whole = np.array([2 * -(-n // 4) for n in (9, 14, 3)])
    assert (np.asarray(seen.steps) >= 1).all()
    assert (np.asarray(seen.steps) < whole).any()


def test_half_an_epoch_is_half_the_batches():
    seen = train(Look(epochs=0.5), numbered(), 1, models=("softmax",)).server
    np.testing.assert_array_equal(seen.steps, [1, 2, 0])


@method
class Forgets:
    """A program that forgets the private state."""

    def init(self, fed):
        return jnp.zeros(())

    def join(self, k, s):
        return s

    def round(self, s, fed):
        fed.ask(fed.everyone(), self.update, s)
        return s

    def update(self, k, s):
        return s

    def personalize(self, k, s):
        return k.state


@method
class Asks:
    """Server code with a mistake of choice."""

    mistake: str = "none"

    def init(self, fed):
        return fed.ask(fed.everyone(), self.early, jnp.zeros(())) and jnp.zeros(()) if self.mistake == "early" else jnp.zeros(())

    def join(self, k, s):
        return s

    def round(self, s, fed):
        match self.mistake:
            case "nobody":
                fed.ask([], self.update, s)
            case "twice":
                fed.ask([0, 0], self.update, s)
            case "few messages":
                fed.ask([0, 1], self.update, s, each=[s])
            case "shape":
                fed.ask([0, 1], self.update, s, each=jnp.zeros(3))
            case "fails":
                fed.ask([1], self.fails, s)
            case "other state":
                fed.ask([0], self.other, s)
        return s

    def early(self, k, s):
        return s

    def update(self, k, s, mine=None):
        return s, k.state

    def other(self, k, s):
        return s, jnp.zeros(3)

    def fails(self, k, s):
        raise ValueError("boom")

    def personalize(self, k, s):
        return ()

    def predict(self, k, w, x):
        return jnp.zeros((x.shape[0], 10))


def test_forgetting_the_private_state_is_an_error():
    with pytest.raises(AtollError, match=r"Forgets.update must return \(reply, private state\)"):
        train(Forgets(), small_digits(2), 1)


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        ("early", "before clients have joined"),
        ("nobody", "no client"),
        ("twice", "twice of the same client"),
        ("few messages", "1 messages for 2 clients"),
        ("shape", "first axis must count the 2 clients"),
        ("other state", r"state is \(3,\) instead of \(\)"),
    ],
)
def test_mistakes_in_server_code_are_named(mistake, text):
    with pytest.raises(AtollError, match=text):
        train(Asks(mistake=mistake), small_digits(2), 1)


def test_the_loop_engine_names_method_program_client_and_round():
    with pytest.raises(AtollError, match=r"Asks.fails failed at client 1 in round 1: ValueError: boom"):
        train(Asks(mistake="fails"), small_digits(2), 1, engine="loop")


@method
class HostMean:
    """Class means by NumPy, kept at the client; the server gets a stateless count."""

    def init(self, fed):
        return fed.ask(fed.everyone(), self.count, None).reply.sum()

    @stateless
    def count(self, k, _):
        return k.n

    def join(self, k, s):
        return jnp.zeros(64)

    def round(self, s, fed):
        fed.ask(fed.everyone(), self.fit, s)
        return s

    @on_host
    def fit(self, k, s):
        assert isinstance(k.x, np.ndarray)
        return None, k.x.reshape(k.n, -1).mean(axis=0) + 0 * k.random.random()

    def personalize(self, k, s):
        return k.state

    def predict(self, k, w, x):
        return jnp.zeros((x.shape[0], 10)) + w.sum()


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
def test_programs_on_the_host_see_numpy_rows(engine):
    fed = small_digits(3)
    trained = train(HostMean(), fed, 1, engine=engine)
    assert int(trained.server) == fed.count["train"].sum()
    for i, state in trained.states.items():
        first, n = fed.start["train"][i], fed.count["train"][i]
        np.testing.assert_allclose(state, fed.x[first : first + n].reshape(n, -1).mean(axis=0) / 16, rtol=1e-5)


def test_public_rows_are_missed_with_advice():
    @method
    class Public:
        """Wants public rows."""

        def init(self, fed):
            return fed.public[0]

        def round(self, s, fed):
            return s

        def global_model(self, k, s):
            return s

    with pytest.raises(AtollError, match=r"--public 0\.1"):
        begin(Public(), small_digits(2)).start()


def test_states_can_live_in_memory_mapped_files(tmp_path):
    from atoll.engine.store import Store

    store = Store(tmp_path)
    memory = Store()
    for ids in ([3, 1], [7], list(range(20, 50)), [1, 49]):
        states = {"a": np.random.default_rng(ids[0]).random((len(ids), 5)).astype(np.float32), "b": np.arange(len(ids))}
        for s in (store, memory):
            s.scatter(np.array(ids), states)
    for i in (1, 3, 7, 20, 49):
        jax.tree.map(np.testing.assert_array_equal, store.gather(np.array([i])), memory.gather(np.array([i])))
    assert 8 not in store
    assert list(tmp_path.glob("*.npy"))
    assert store.nbytes == memory.nbytes == 33 * (5 * 4 + 8)


@method
class LookAtMore:
    """As Look, with three more rows, numbered 50 to 52, of the five that lie there."""

    def init(self, fed):
        return jnp.zeros(())

    def round(self, s, fed):
        return fed.ask(fed.everyone(), self.look, s, reduce=stack).reply

    def look(self, k, s):
        both = k.with_rows(jnp.arange(50.0, 55.0)[:, None], jnp.arange(5, dtype=jnp.int32), 3)

        def count(visits, batch):
            return visits.at[batch.x[:, 0].astype(int)].add(batch.mask)

        visits, steps = both.fold(count, jnp.zeros(60), batch=4, epochs=2)
        labels = both.train.sum(lambda rows: (rows.y * (rows.x[:, 0] >= 50) * rows.mask).sum())
        return Seen(visits, steps, labels, both.n)

    def personalize(self, k, s):
        return ()

    def predict(self, k, w, x):
        return jnp.zeros((x.shape[0], 2))


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
def test_more_rows_are_visited_like_own_ones(engine):
    training = begin(LookAtMore(), numbered(), engine=engine)
    training.start()
    training.step()
    seen = training.server
    for i, (first, n) in enumerate([(0, 9), (9, 14), (23, 3)]):
        expected = np.zeros(60)
        expected[first : first + n] = expected[50:53] = 2
        np.testing.assert_array_equal(seen.rows[i], expected)
        assert (int(seen.steps[i]), float(seen.mean[i]), int(seen.partial[i])) == (2 * -(-(n + 3) // 4), 0 + 1 + 2, n + 3)


class Mapped(NamedTuple):
    rows: object  # the number of every row, in order
    made: object  # the same of these rows and three more that are made of their numbers
    instead: object
    third: object  # of the rows whose number is a multiple of three
    own: object  # a draw with the key that stays


@method
class LookInOrder:
    def init(self, fed):
        return fed.ask(fed.everyone(), self.look).reply

    def round(self, s, fed):
        return fed.ask(fed.everyone(), self.look_again).reply

    @stateless
    def look(self, k, s):
        def make(at):
            return 100.0 + at[:, None], at

        def number(rows):
            return rows.x[:, 0]

        more, other = k.train.with_made(make, 3, 5), k.train.instead(make, k.n - 1, k.train.room)
        third = k.on(k.train.only(k.map(number) % 3 == 0)).map(number)  # filling is 0, which is one too
        return Mapped(k.map(number), k.on(more).map(number), other.map(number), third, jax.random.normal(k.lasting_key(0), (2,)))

    look_again = stateless(lambda self, k, s: self.look(k, s))

    def personalize(self, k, s):
        return ()


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
def test_rows_can_be_mapped_in_order(engine):
    """Room is that of the longest client, 14 rows, rounded up to 16; what lies behind a client's rows is zero."""
    training = begin(LookInOrder(), numbered(), models=("softmax",), engine=engine)
    training.start()
    seen = training.server
    for i, (first, n) in enumerate([(0, 9), (9, 14), (23, 3)]):
        own, new = np.arange(first, first + n), np.array([100, 101, 102])
        np.testing.assert_array_equal(seen.rows[i], np.pad(own, (0, 16 - n)))
        np.testing.assert_array_equal(seen.made[i], np.pad(np.concatenate([own, new]), (0, 16 + 5 - n - 3)))
        np.testing.assert_array_equal(seen.instead[i], np.pad(100 + np.arange(n - 1), (0, 16 - n + 1)))
        np.testing.assert_array_equal(seen.third[i], np.pad(own[own % 3 == 0], (0, 16 - (own % 3 == 0).sum())))


def test_a_clients_own_key_is_the_same_in_every_program_and_round():
    training = begin(LookInOrder(), numbered(), models=("softmax",))
    training.start()
    first = np.asarray(training.server.own)
    training.step()
    np.testing.assert_array_equal(training.server.own, first)
    assert len(np.unique(first)) == first.size


def test_a_program_can_run_at_the_server():
    """There the public rows are its train rows; nobody is asked, nothing is sent, and clients' draws stay what they were."""
    fed = small_digits(2, public=9)
    training = begin(LookAtPublic(), fed)
    training.start()
    np.testing.assert_allclose(training.server, (fed.public[0] * fed.scale).mean(), rtol=1e-5)
    assert not training.fed.traffic.asked
    assert training.fed.traffic.down.sum() == 0


@method
class LookAtPublic:
    def init(self, fed):
        return fed.at_server(self.brightness)

    def round(self, s, fed):
        return s

    def brightness(self, k, s):
        return k.mean(lambda rows: (rows.x.mean((1, 2)) * rows.mask).sum() / rows.mask.sum())

    def personalize(self, k, s):
        return ()


class Visits(NamedTuple):
    own: object  # [40] how often each row was visited as it is
    made: object  # [40] how often as a copy
    n: object
    mean: object
    drawn: object  # distinct rows in a draw


@method
class Repeat:
    """Counts visits of rows that are there several times or not at all; copies carry their row's number + 100 * copy + 1000 * that number."""

    def init(self, fed):
        return jnp.zeros(())

    def round(self, s, fed):
        return fed.ask(fed.everyone(), self.look, s).reply

    def look(self, k, s):
        times = jnp.arange(20, dtype=jnp.int32) % 4  # room for more rows than any client has

        def change(x, row, copy):
            return x + (100 * copy + 1000 * row)[:, None]

        more = k.with_repeated(times, change)

        def count(seen, batch):
            number = batch.x[:, 0].astype(int)
            row, copy = number % 100, number // 100 % 10
            place = number // 1000  # of the copied row among its owner's
            own = seen[0].at[row].add(batch.mask * (copy == 0))
            made = seen[1].at[row].add(batch.mask * (copy > 0) * (copy < times[place]))
            return own, made

        (own, made), _ = more.fold(count, (jnp.zeros(40), jnp.zeros(40)), batch=4, epochs=2)
        mean = more.mean(lambda rows: (rows.x[:, 0] % 100 * rows.mask).sum() / rows.mask.sum())
        return Visits(own, made, more.n, mean, more.draw(64, k.key).mask.sum())

    def personalize(self, k, s):
        return ()

    def predict(self, k, w, x):
        return jnp.zeros((x.shape[0], 2))


@pytest.mark.parametrize("engine", ["simulate", "loop", "wire"])
def test_repeated_rows_are_there_as_often_as_said(engine):
    seen = train(Repeat(), numbered(), 1, models=("softmax",), engine=engine).server
    first = 0
    for i, n in enumerate((9, 14, 3)):
        times = np.arange(n) % 4
        own, made = np.zeros(40), np.zeros(40)
        own[first : first + n] = 2 * (times > 0)
        made[first : first + n] = 2 * np.maximum(times - 1, 0)
        np.testing.assert_array_equal(seen.own[i], own)
        np.testing.assert_array_equal(seen.made[i], made)
        assert seen.n[i] == seen.drawn[i] == times.sum()
        assert seen.mean[i] == pytest.approx(np.average(np.arange(first, first + n), weights=times))
        first += n
