"""FedJAX: its federated_averaging on its fastest backend on a CPU, jit (one dispatch per step)."""

from __future__ import annotations

import argparse

import jax

if not hasattr(jax, "tree_map"):
    jax.tree_map = jax.tree.map  # fedjax 0.0.17 is of 2023 and uses a name that JAX has since removed

import fedjax
import jax.numpy as jnp
import numpy as np
from fedjax.algorithms import fed_avg
from measure import Report
from workloads import BATCH, CLIENTS, LR, PER_ROUND, TEST, WARM_UP, WORKLOADS, data_of, floats


def initial(name: str) -> dict:
    rng = np.random.default_rng(0)

    def dense(*shape: int) -> dict:
        return {"w": (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32), "b": np.zeros(shape[-1], np.float32)}

    shapes = {
        "net": [(60, 20), (20, 10)],
        "softmax": [(784, 10)],
        "mlp": [(784, 200), (200, 10)],
        "cnn": [(5, 5, 1, 32), (5, 5, 32, 64), (3136, 512), (512, 10)],
    }
    return {f"layer{n}": dense(*shape) for n, shape in enumerate(shapes[name])}


def outputs(w: dict, x: jax.Array) -> jax.Array:
    layers = [w[name] for name in sorted(w)]
    for layer in layers[:-1]:
        if layer["w"].ndim == 4:
            x = jax.lax.conv_general_dilated(x, layer["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + layer["b"]
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        else:
            x = x.reshape(len(x), -1) @ layer["w"] + layer["b"]
        x = jax.nn.relu(x)
    return x.reshape(len(x), -1) @ layers[-1]["w"] + layers[-1]["b"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", required=True)
    workload = WORKLOADS[parser.parse_args().workload]
    data = data_of(workload)
    inner = {"net": (60,), "cnn": (28, 28, 1)}.get(workload.name, (784,))
    train_x, test_x = (floats(x).reshape(*x.shape[:2], *inner) for x in (data.train_x, data.test_x))
    clients = [fedjax.ClientDataset({"x": x, "y": y}) for x, y in zip(train_x, data.train_y, strict=True)]

    def loss(w: dict, batch: dict, _: jax.Array) -> jax.Array:
        logits = jax.nn.log_softmax(outputs(w, batch["x"]))
        return -jnp.take_along_axis(logits, batch["y"][:, None], 1).mean()

    algorithm = fed_avg.federated_averaging(
        jax.grad(loss),
        fedjax.optimizers.sgd(LR),
        fedjax.optimizers.sgd(1.0),
        fedjax.ShuffleRepeatBatchHParams(batch_size=BATCH, num_epochs=1, seed=0),
    )
    state = algorithm.init(initial(workload.name))
    rng, keys = np.random.default_rng(1), list(jax.random.split(jax.random.key(0), PER_ROUND))

    def one_round() -> None:
        nonlocal state
        chosen = rng.choice(CLIENTS, PER_ROUND, replace=False)
        state, _ = algorithm.apply(state, [(int(i), clients[i], key) for i, key in zip(chosen, keys, strict=True)])
        jax.block_until_ready(state.params)

    hits = jax.jit(lambda w, x, y: (outputs(w, x).argmax(1) == y).sum())

    def evaluate() -> float:
        return sum(int(hits(state.params, x, y)) for x, y in zip(test_x, data.test_y, strict=True)) / (CLIENTS * TEST)

    report = Report()
    report.train(one_round, WARM_UP, workload.rounds)
    report.evaluate(evaluate, workload.evaluations)
    report.print(version=f"0.0.17, jax {jax.__version__}")


if __name__ == "__main__":
    main()
