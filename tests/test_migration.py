"""What the page for users of avalanche-lib says: its code runs, and both train alike."""

import copy
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision import transforms

import clbench
from clbench.recipe.recipe import parse
from clbench.runner.setup import Setup

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # avalanche-lib looks for a QP solver when it is imported
    pytest.importorskip("avalanche")
    from avalanche.benchmarks.classic import SplitMNIST
    from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, LwFPlugin, ReplayPlugin
    from avalanche.training.supervised import Naive

pytestmark = pytest.mark.filterwarnings(
    "ignore:No loggers specified", "ignore:No benchmark", "ignore::DeprecationWarning"
)
PAGE = Path(__file__).parents[1] / "docs" / "migration" / "avalanche.md"
ORDER = list(range(10))
EACH, EPOCHS, RATE = 16, 2, 0.05
RECIPE = {
    "stream": {
        "name": "avalanche",
        "benchmark": "SplitMNIST",
        "arguments": {"n_experiences": 5, "fixed_class_order": ORDER},
        "validation": 0.0,
    },
    "images": {"size": 28, "mean": [0.5] * 3, "std": [0.5] * 3},
    "model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
    "optimizer": {"name": "sgd", "lr": RATE, "momentum": 0.0},
    "train_logits": "all",
    "epochs": EPOCHS,
    "batch_size": 1000,  # one batch an epoch: no order of images
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with ``data/MNIST`` of ten noisy patterns, in the place of the digits."""
    folder = tmp_path_factory.mktemp("migration")
    random = np.random.default_rng(0)
    patterns = random.integers(0, 200, (10, 28, 28))
    for part, each in (("train", EACH), ("t10k", 4)):
        labels = random.permutation(np.repeat(np.arange(10), each))
        images = patterns[labels] + random.integers(0, 56, (len(labels), 28, 28))
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / "data" / "MNIST" / "raw" / f"{part}-{kind}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path.write_bytes(head + array.astype(np.uint8).tobytes())
    return folder


def experiences(root, **arguments):
    scaled = [transforms.Lambda(lambda x: x.expand(3, -1, -1)), transforms.Normalize(0.5, 0.5)]
    one = transforms.Compose(scaled)
    arguments = {"n_experiences": 5, "train_transform": one, "eval_transform": one} | arguments
    return SplitMNIST(dataset_root=str(root / "data"), **arguments)


def theirs(root, model, plugin=None, batch=1000, epochs=EPOCHS):
    """The network that avalanche-lib's strategy leaves, and the strategy."""
    model = copy.deepcopy(model)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=RATE),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=batch,
        train_epochs=epochs,
        evaluator=EvaluationPlugin(),
        plugins=[] if plugin is None else [plugin],
    )
    for experience in experiences(root, fixed_class_order=ORDER).train_stream:
        strategy.train(experience)
    return model.state_dict(), strategy


def network(root):
    """The network of the recipe, with its first weights."""
    recipe = parse(RECIPE | {"data_dir": str(root / "data")})
    return Setup.of(recipe, root / "first").network.model


def ours(root, folder, methods, **more):
    record = clbench.run(
        RECIPE | {"data_dir": str(root / "data"), "methods": methods} | more, output=folder
    )
    return load_file(folder / "model.safetensors"), record


def farthest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


class ImportancesOfImages(EWCPlugin):
    """Of single images, and none of rows of the head that no experience has learned yet."""

    learned = 0

    def compute_importances(self, model, *rest, num_workers=0):
        found = super().compute_importances(model, *rest[:-1], 1, num_workers=num_workers)
        self.learned += 2
        for name in ("fc.weight", "fc.bias"):
            found[name].data[self.learned :] = 0
        return found


@pytest.mark.parametrize(
    ("plugin", "methods"),
    [
        (lambda: None, {}),
        (lambda: LwFPlugin(alpha=1.0, temperature=2.0), {"lwf": {"strength": 1.0, "among": "all"}}),
        (lambda: ImportancesOfImages(2.0), {"ewc": {"strength": 4.0}}),
    ],
    ids=["naive", "lwf", "ewc"],
)
def test_both_end_with_the_same_weights(root, tmp_path, no_pictures, plugin, methods):
    model = network(root)
    first = {name: x.clone() for name, x in model.state_dict().items()}
    expected, strategy = theirs(root, model, plugin())
    found, record = ours(root, tmp_path / "run", methods)
    assert found.keys() == expected.keys()
    assert farthest(found, first) > 0.01
    assert farthest(found, expected) < 5e-5
    assert sum(task.steps for task in record.tasks) == strategy.clock.train_iterations
    if "ewc" in methods:  # with importances of batches it is another penalty
        assert farthest(found, theirs(root, model, EWCPlugin(2.0))[0]) > 5e-3


def test_replay_has_as_many_steps_and_past_images(root, tmp_path, no_pictures):
    seen = []

    class Counting(ReplayPlugin):
        def before_training_iteration(self, strategy, **_):
            current = set(strategy.experience.classes_in_this_experience)
            labels = strategy.mb_y.tolist()
            seen.append(sum(label not in current for label in labels))

    plugin = Counting(mem_size=16, batch_size=8, batch_size_mem=8)
    _, strategy = theirs(root, network(root), plugin, batch=8, epochs=1)
    _, record = ours(
        root,
        tmp_path / "run",
        {"replay": {"size": 16, "fraction": 0.5}},
        batch_size=16,
        epochs=1,
    )
    # The first experience has no past, and so no memory: batches of 8 there, of 16 here.
    steps = [task.steps for task in record.tasks]
    assert steps[1:] == [4] * 4
    assert strategy.clock.train_iterations == 4 * 5
    assert seen[:4] == [0] * 4
    assert seen[4:] == [8] * 16
    activity = [task.methods["replay"] for task in record.tasks[1:]]
    assert [told["replayed_share"] for told in activity] == [0.5] * 4


def test_the_code_of_the_page(root, monkeypatch, no_pictures):
    monkeypatch.chdir(root)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), names)
    record, strategy = names["record"], names["strategy"]
    classes = [
        sorted(int(record.run.class_names[label].split("/")[1]) for label in (2 * t, 2 * t + 1))
        for t in range(5)
    ]
    assert classes == names["experiences"]
    assert sum(names["steps"]) == strategy.clock.train_iterations == 5 * 2
    assert names["matrix"].shape == (5, 5)
