"""Runs on tasks that share labels: one accuracy, all logits alike, one head for every method."""

import copy

import pytest
import torch
from helpers import comparable
from rich.console import Console
from safetensors.torch import load_file

import clbench
from clbench.recipe.recipe import parse
from clbench.record.record import Record
from clbench.report.compare import compare
from clbench.report.html import page
from clbench.report.tables import leaderboard_csv, markdown
from clbench.runner.screen import line, show
from clbench.runner.setup import Setup

STREAM = {
    "name": "split_digits",
    "labels": "shared",
    "classes": [[4, 5], [6, 7], [8, 9]],
    "train_per_class": 40,
    "test_per_class": 10,
}


@pytest.fixture
def shared(recipe, no_pictures):
    return recipe | {"stream": copy.deepcopy(STREAM), "steps": 8, "batch_size": 16}


def run(recipe, folder, **changes):
    record = clbench.run(copy.deepcopy(recipe) | changes, folder)
    return record, load_file(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_both_accuracies_are_one_and_the_head_has_one_task_s_rows(shared, tmp_path):
    record, weights = run(shared, tmp_path / "run")
    assert weights["fc.weight"].shape[0] == 2
    assert record.run.shared_labels is True
    for event in record.tasks:
        assert event.task_incremental == event.class_incremental
    assert [len(event.evaluated) for event in record.tasks] == [1, 2, 3]
    assert record.run.class_names == ["4 | 6 | 8", "5 | 7 | 9"]


def test_all_train_logits_are_alike(shared, tmp_path):
    runs = {
        name: run(shared, tmp_path / name, train_logits=name)[1] for name in ("task", "seen", "all")
    }
    assert same(runs["task"], runs["seen"])
    assert same(runs["task"], runs["all"])


def test_accuracy_of_each_task_against_a_loop(shared, tmp_path):
    """A label does not tell the task here, so the score must not go by it."""
    record, weights = run(shared, tmp_path / "run")
    made = Setup.of(parse(shared), tmp_path / "other")
    made.network.load(weights)
    transform, model = made.meter.evaluator.reader.transform, made.network.model.eval()
    for task, accuracy in zip(made.stream.tasks, record.tasks[-1].task_incremental, strict=True):
        with torch.no_grad():
            logits = model(transform.test(task.test.images.take(task.test.index)))
        right = logits.argmax(1) == task.test.labels
        assert accuracy == float(right.double().mean())
    assert len(set(record.tasks[-1].task_incremental)) > 1


def test_the_head_goes_on_from_task_to_task(shared, tmp_path):
    """With a rate of nothing the probe of task 2 begins with what that of task 1 ended with."""
    changes = {"optimizer": {"name": "sgd", "lr": 1e-12}, "methods": {"linear_probe": {}}}
    model = shared["model"] | {"head": "linear_probe", "probe": {"epochs": 20}}
    first = {**STREAM, "first_tasks": 1}
    _, one = run(shared, tmp_path / "one", stream=first, model=model, **changes)
    still = model | {"probe": {"epochs": 20, "lr": 1e-12}}
    record, two = run(
        shared, tmp_path / "two", model=model,
        per_task={name: {"model": {"probe": still["probe"]}} for name in ("6, 7", "8, 9")},
        **changes,
    )  # fmt: skip
    assert record.finished
    torch.testing.assert_close(one["fc.weight"], two["fc.weight"])


def test_merging_merges_the_head_too(shared, tmp_path):
    """θ_* + λ·Σ(θ_task − θ_*), with the head's rows among θ, since all tasks train them."""
    methods = {"task_arithmetic": {"scale": 0.25}}
    changes = {"methods": methods, "checkpoints": "all"}
    _, merged = run(shared, tmp_path / "run", **changes)
    made = Setup.of(parse(shared), tmp_path / "other")
    base = made.network.theta_pretrained
    alone = []
    for number in range(3):
        stream = {**STREAM, "first_tasks": number + 1}
        scaled = {"methods": {"task_arithmetic": {"scale": 1.0}}}
        folder = tmp_path / f"first{number}"
        _, weights = run(shared, folder, stream=stream, **scaled)
        alone.append(weights)
    sums = {name: alone[2][name] - base[name] for name in base}
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, base[name] + 0.25 * sums[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(merged["fc.weight"], base["fc.weight"])


@pytest.mark.parametrize("selection", ["reservoir", "balanced", "herding"])
def test_replay_counts_samples_of_other_tasks_not_of_other_labels(shared, tmp_path, selection):
    settings = {"fraction": 0.25, "size": 20, "selection": selection}
    record, _ = run(shared, tmp_path / "run", methods={"replay": settings})
    shares = [event.methods["replay"]["replayed_share"] for event in record.tasks]
    assert shares[0] == 0
    assert all(0.2 < share < 0.27 for share in shares[1:])
    assert record.tasks[-1].methods["replay"]["stored_samples"] == 20


def test_replayed_samples_keep_a_weight_of_one_in_flow(shared, tmp_path, monkeypatch):
    from clbench.methods.flow import FLOW

    found = []
    weights = FLOW.weights

    def spied(self, forward):
        factors = weights(self, forward)
        found.append((factors.clone(), self._is_own[forward.batch.indices].clone()))
        return factors

    monkeypatch.setattr(FLOW, "weights", spied)
    run(shared, tmp_path / "run", methods={"flow": {"per": "batch"}, "replay": {"fraction": 0.5}})
    factors, own = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert (~own).any()
    assert (factors[~own] == 1).all()
    assert (factors[own] < 1).any()


def test_multitask_learns_all_tasks_on_the_same_rows(shared, tmp_path):
    record, _ = run(shared, tmp_path / "run", methods={"multitask": {}})
    assert record.tasks[0].evaluated == range(3)
    assert record.tasks[0].task_incremental == record.tasks[0].class_incremental


def test_screen_and_report_show_one_accuracy(shared, tmp_path):
    for seed in (0, 1):
        run(shared, tmp_path / f"s{seed}", seed=seed)
        run(shared, tmp_path / f"r{seed}", seed=seed, methods={"replay": {}})
    record = Record.load(tmp_path / "s0")
    console = Console(record=True, width=200)
    show(record, console)
    text = console.export_text()
    assert "domain-incremental" in text
    assert "class-incremental" not in text
    assert "class-incremental" not in line(record.tasks[-1], shared=True)
    comparison = compare([tmp_path])
    (section,) = comparison.sections
    assert section.scenarios == {"task_incremental": "domain-incremental"}
    html = page(comparison, {}, "t")
    assert "Leaderboard, domain-incremental" in html
    assert "Leaderboard, class-incremental" not in html
    assert "(DI)" in html
    assert len(leaderboard_csv(comparison).splitlines()) == 3  # a head and two methods
    assert "class-incremental" not in markdown(comparison)


def test_pictures_have_one_panel(shared, tmp_path, monkeypatch):
    from clbench.report.figures import FIGURES

    record, _ = run(shared, tmp_path / "run", eval_every=4)
    for draw in FIGURES.values():
        figure = draw(record)
        assert len([axis for axis in figure.axes if axis.get_label() != "<colorbar>"]) == 1


def test_a_stream_of_one_task_is_the_same_with_either_labels(recipe, no_pictures, tmp_path):
    """One task has nothing to share: the same bits, whatever stream.labels says."""
    stream = {"name": "split_digits", "tasks": 1, "train_per_class": 40}
    base = recipe | {"steps": 8}
    runs = [
        run(base, tmp_path / labels, stream=stream | {"labels": labels})
        for labels in ("own", "shared")
    ]
    (one, weights), (other, others) = runs
    assert same(weights, others)
    assert comparable(one) == comparable(other)


def test_what_is_averaged_with_is_the_head_of_the_task_before_not_that_probed_again(
    shared, tmp_path
):
    model = shared["model"] | {"head": "linear_probe"}
    methods = {"sfa": {"p": 1.0, "beta": 1.0}}  # nothing but θ_o is left at a task's end
    one = shared["stream"] | {"first_tasks": 1}
    _, first = run(shared, tmp_path / "one", model=model, methods=methods, stream=one)
    _, last = run(shared, tmp_path / "all", model=model, methods=methods)
    assert same(first, last)
