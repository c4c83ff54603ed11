"""Flower's client app. A module of its own: an app defined in the main script is pickled whole with every message, and loads its data each time."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch_models import model_of, tensors
from workloads import BATCH, LR, WORKLOADS, data_of

app = ClientApp()


@functools.cache
def prepared(name: str):
    """Rows and one model for all clients of this process."""
    torch.set_num_threads(1)
    workload = WORKLOADS[name]
    return model_of(workload), tensors(workload, data_of(workload))


@app.train()
def train(message: Message, context: Context) -> Message:
    model, (train_x, train_y, _, _) = prepared(message.content["config"]["workload"])
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    i = int(context.node_config["partition-id"])
    order = torch.randperm(train_x.shape[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for x, y in zip(train_x[i][order].split(BATCH), train_y[i][order].split(BATCH), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": train_x.shape[1]})
    return Message(content=RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    model, (_, _, test_x, test_y) = prepared(message.content["config"]["workload"])
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    i = int(context.node_config["partition-id"])
    with torch.inference_mode():
        hits = int((model(test_x[i]).argmax(1) == test_y[i]).sum())
    return Message(content=RecordDict({"metrics": MetricRecord({"accuracy": hits / test_x.shape[1], "num-examples": test_x.shape[1]})}), reply_to=message)
