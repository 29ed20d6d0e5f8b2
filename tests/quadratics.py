"""Tasks whose losses are quadratics of a point, for what averages weights by Fishers."""

from types import SimpleNamespace

import torch
from torch import nn

from clbench.models.anchors import Anchor, Anchors
from clbench.weights import snapshot


class Point(nn.Module):
    """A point in the plane, and a bias that no Fisher knows."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("running_mean", torch.zeros(1, dtype=torch.float64))


#: Task k's loss is ½·Σ a_k·(w − c_k)², whose Fisher is taken to be a_k.
CURVATURE = [[1.0, 4.0, 0.0], [3.0, 1.0, 0.0], [0.5, 2.0, 1.0]]
MINIMUM = [[1.0, 2.0, 3.0], [-1.0, 0.5, 1.0], [4.0, -3.0, 2.0]]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def context(model, task, steps=1):
    anchor = Anchor(snapshot(model), torch.ones(0, dtype=torch.bool))
    return SimpleNamespace(
        task=SimpleNamespace(index=task),
        model=model,
        head=(),
        anchors=Anchors(anchor, anchor),
        total_steps=steps,
        device=torch.device("cpu"),
    )


def put(model, values):
    with torch.no_grad():
        model.w.copy_(tensor(values))


def learn(method, model, tasks=3):
    """Each task is trained to its minimum; the next one starts from the merge."""
    for task in range(tasks):
        there = context(model, task)
        method.start(there)
        put(model, MINIMUM[task])
        method.finish(there)
