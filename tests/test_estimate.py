"""Counts are those of the real run; costs are measured, so they are only looked at."""

import errno
import io
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import nn
from writers import write_stanford_cars, write_stanford_dogs

import clbench
from clbench.cli.cli import main
from clbench.data import datasets
from clbench.data.datasets.sizes import SIZES, stand_in
from clbench.errors import ClbenchError
from clbench.estimate.estimating import devices, estimate
from clbench.estimate.needed import outline
from clbench.estimate.screen import show
from clbench.estimate.trial import STAGES, alone, grown, try_out
from clbench.models.activations import kept_backward
from clbench.recipe.merging import merge
from clbench.recipe.recipe import parse


@pytest.fixture(autouse=True)
def quick(no_pictures):
    """Trials without pictures."""


def everything(folder):
    return sorted(folder.rglob("*"))


def counts(folder):
    """What a run's record and split manifest say: for each task, as `TaskEstimate` has it."""
    record = clbench.Record.load(folder)
    manifest = json.loads((folder / "split_manifest.json").read_text())
    tests = [task["test"] for task in manifest["tasks"]]
    held = [len(task["validation_images"]) for task in manifest["tasks"]]
    rows = []
    for event in record.tasks:
        tested = sum(tests[task] for task in event.evaluated)
        curve = sum(tests[task] for point in event.curve for task in point.evaluated)
        if event.validation:
            tested += sum(held[task] for task in event.validation.evaluated)
        rows.append((event.name, event.steps, event.samples, tested, curve))
    return rows


CASES = {
    "plain, epochs": {"steps": None, "epochs": 2},
    "steps that end within an epoch": {"steps": 21},
    "curves": {"eval_every": 4, "methods": {"sfa": {"p": 0.5}}},
    "replay": {"epochs": 2, "methods": {"replay": {"fraction": 0.3, "size": 20}}},
    "replay, steps": {"steps": 17, "methods": {"replay": {"fraction": 0.1}}},
    "multitask": {"epochs": 1, "methods": {"multitask": {}}, "eval_every": 10},
    "multitask, many tasks": {"methods": {"multitask": {}}, "stream": {"tasks": 6}},
    "linear probe": {"methods": {"linear_probe": {}}, "stream": {"validation": 0}},
    "gem": {"methods": {"gem": {"samples": 16}}},
    "accumulated": {"epochs": 2, "trainer": {"accumulate_grad_batches": 3}},
    "accumulated, steps": {"steps": 8, "trainer": {"accumulate_grad_batches": 3}},
    "a task of its own": {"per_task": {"6, 7": {"epochs": 3, "batch_size": 50}}},
    "one task": {"stream": {"tasks": 1}},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_counts_are_those_of_the_real_run(recipe, tmp_path, changes):
    recipe = merge(recipe, {"stream": {"train_per_class": 60}})
    recipe = merge(recipe, changes)
    made = estimate(recipe)
    folder = clbench.run(recipe, tmp_path / "run").folder
    rows = [(t.name, t.steps, t.samples, t.tested, t.curve) for t in made.tasks]
    assert rows == counts(folder)
    record = clbench.Record.load(folder)
    assert made.parameters == record.run.parameters
    cost = record.summary()["cost"]
    assert (made.total.steps, made.total.samples) == (cost["train_steps"], cost["samples"])
    assert made.pretrained == made.tasks[0].retained == retained(record, recipe)


def retained(record, recipe):
    """Images of the four pretraining classes in the test part, if retention was measured."""
    if record.pretrained is None:
        return 0
    labels = datasets.load("digits", recipe["data_dir"]).test.labels
    return int((labels < 4).sum())


def test_an_independent_stream_over_image_files(tmp_path, recipe):
    data = tmp_path / "data"
    rows = [(f"{i}.jpg", 1 + i % 2) for i in range(14)]
    write_stanford_cars(data, ["a", "b"], rows, rows[:4])
    dogs = [(f"n{label}-{label}/{i}.jpg", label) for i in range(9) for label in (1, 2, 3)]
    write_stanford_dogs(data, dogs, dogs[:6])
    recipe |= {
        "data_dir": str(data),
        "stream": {"name": "transfer6", "datasets": ["stanford_cars", "stanford_dogs"]},
        "epochs": 2,
        "steps": None,
        "batch_size": 4,
    }
    recipe["stream"]["independent"] = True
    recipe["model"] |= {"weights": "none", "head": "linear_probe"}
    before = everything(data)
    made = estimate(recipe)
    assert everything(data) == before
    assert made.missing == ()
    folder = clbench.run(recipe, tmp_path / "run").folder
    rows = [(t.name, t.steps, t.samples, t.tested, t.curve) for t in made.tasks]
    assert rows == counts(folder)
    # The head's probe passes over each task's training images once.
    manifest = json.loads((folder / "split_manifest.json").read_text())
    assert [t.passed for t in made.tasks] == [task["train"] for task in manifest["tasks"]]
    written = sum(path.stat().st_size for path in (data / "cache").glob("*.npy"))
    assert made.disk["image caches"] == pytest.approx(written, rel=0.2)  # NumPy's headers
    assert "image caches" not in estimate(recipe).disk


def test_a_probe_that_moves_batch_normalisation_takes_a_pass_an_epoch(recipe):
    recipe["model"] |= {"head": "linear_probe"}
    passed = []
    for rule in ("eval", "train"):
        recipe["model"]["probe"] = {"epochs": 3, "batch_norm": rule}
        passed.append([task.passed for task in estimate(recipe).tasks])
    # After the epochs, one more for the losses.
    assert passed[1] == [4 * count for count in passed[0]]


def test_missing_data_is_named_and_replaced_by_its_known_size(tmp_path, recipe):
    recipe |= {
        "data_dir": str(tmp_path / "data"),
        "stream": {"name": "transfer6", "datasets": ["cifar10", "stanford_cars"]},
        "epochs": 1,
        "steps": None,
        "methods": {"sfa": {}},
    }
    recipe["model"] |= {"weights": "none"}
    made = estimate(recipe)
    assert not (tmp_path / "data").exists()
    assert [(a.what, a.fetched) for a in made.missing] == [
        ("cifar10", True),
        ("stanford_cars", False),
    ]
    assert "data/stanford_cars must hold" in made.missing[1].how
    assert made.tasks[0].samples == 45_000
    assert made.tasks[0].tested == 10_000 + 5_000
    assert made.disk["data set stanford_cars"] == SIZES["stanford_cars"].disk
    assert made.disk["image caches"] == (8144 + 8041) * 3 * 9 * 9
    assert made.memory["images"] == 60_000 * 3 * 9 * 9
    recipe["stream"]["download"] = False
    assert [a.fetched for a in estimate(recipe).missing] == [False, False]


def test_own_images_that_are_missing_are_an_error(recipe, tmp_path):
    recipe["stream"] = {"name": "image_folder", "train": str(tmp_path / "a"), "test": "b"}
    recipe["model"] |= {"weights": "none"}
    with pytest.raises(ClbenchError, match="does not exist"):
        estimate(recipe)


def test_missing_weights_are_named_and_random_ones_timed(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    recipe["model"] = {"backbone": "resnet18", "weights": "tv_in1k"}
    recipe["images"] = {"size": 32}
    recipe["steps"] = 1
    made = estimate(recipe)
    (missing,) = made.missing
    assert (missing.what, missing.fetched) == ("resnet18.tv_in1k", True)
    assert any("no ImageNet images" in note for note in made.notes)
    recipe["model"]["weights"] = "nowhere.pth"
    (missing,) = estimate(recipe).missing
    assert missing.how == "model.weights: there is no file nowhere.pth"


def test_pretraining_counts_until_it_is_cached(recipe, tmp_path):
    recipe["data_dir"] = str(tmp_path)
    assert "pretrained weights" in estimate(recipe).disk
    assert everything(tmp_path) == []
    clbench.run(recipe, tmp_path / "run")
    assert "pretrained weights" not in estimate(recipe).disk


@pytest.mark.parametrize("name", SIZES)
def test_stand_ins_have_the_sizes_of_the_table(name):
    data, size = stand_in(name), SIZES[name]
    assert (len(data.train.images), len(data.test.images)) == (size.train, size.test)
    assert len(Counter(data.train.labels.tolist())) == len(data.classes) == size.classes


def test_the_table_is_that_of_the_documentation():
    text = (Path(__file__).parent.parent / "data" / "README.md").read_text()
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if cells[0] in SIZES:
            rows[cells[0]] = tuple(int(cell.replace(",", "")) for cell in cells[1:4])
    assert rows == {name: (s.classes, s.train, s.test) for name, s in SIZES.items()}


def test_an_outline_is_the_stream(recipe):
    parsed = parse(recipe)
    real, sketch = parsed.stream.build(parsed.data_dir, parsed.images), outline(parsed)[0]
    assert [len(t.train) for t in real.tasks] == [len(t.train) for t in sketch.tasks]
    assert all(
        map(torch.equal, (t.train.index for t in real.tasks), (t.train.index for t in sketch.tasks))
    )
    index = real.tasks[0].test.index
    assert sketch.test_images.take(index).shape == real.test_images.take(index).shape


@pytest.mark.parametrize(
    ("trainer", "count"),
    [
        ({}, 1),
        ({"devices": 4}, 4),
        ({"devices": "2", "num_nodes": 2}, 4),
        ({"devices": [0, 1], "accelerator": "auto"}, 2),
    ],
)
def test_devices(recipe, trainer, count):
    assert devices(parse(recipe | {"trainer": {"accelerator": "cpu"} | trainer})) == count


def test_several_devices_share_the_images(recipe):
    recipe["trainer"] |= {"devices": 4, "strategy": "ddp"}
    made = estimate(recipe)
    assert made.devices == 4
    assert made.total.samples == 18 * 32
    assert any("4 devices" in note for note in made.notes)


def test_what_is_printed(recipe):
    made, text = estimate(recipe), io.StringIO()
    show(made, Console(file=text))
    printed = text.getvalue()
    assert f"{made.total.steps:,}" in printed
    for word in ("steps", "trained on", "retention", "Time ", "Memory ", "Disk "):
        assert word in printed
    assert max(map(len, printed.splitlines()[:6])) <= 120


def test_the_command_line_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--dry-run", "--steps", "1", "--model.options.width", "8"]
    assert main([*words, "--data_dir", "none_here"]) == 0
    assert "will need" in capsys.readouterr().out
    assert everything(tmp_path) == []


def test_more_memory_than_there_is_is_said(recipe, monkeypatch):
    monkeypatch.setattr("clbench.estimate.estimating.memory_of", lambda _: 10**8)
    assert any("lower batch_size" in note for note in estimate(recipe).notes)


def test_images_that_fill_the_memory_are_named(recipe, monkeypatch):
    monkeypatch.setattr("clbench.estimate.estimating.memory_of", lambda _: 10**8)
    made = estimate(recipe | {"images": {"size": 16, "stored": 512}, "batch_size": 2})
    assert made.memory["images once more, while they are read"] == made.memory["images"] > 4e8
    assert any("images.keep: disk" in note for note in made.notes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bfloat16")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_trial_never_waits_for_emulated_numbers(recipe, monkeypatch, precision):
    recipe |= {"trainer": {"precision": precision}}
    assert alone(parse(recipe)).trainer["precision"] in ("bf16-mixed", "32-true")
    for hardware, ours in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr("clbench.estimate.trial.has_bfloat16", lambda _, has=hardware: has)
        assert alone(parse(recipe)).trainer["precision"] == ours
    assert any("only emulates bfloat16; measured in single" in n for n in estimate(recipe).notes)


#: By method: images of a step with gradients beside its batch, in the first task and in the third.
EXTRA = {
    "sfa": ({}, 0, 0),
    "flow": ({"per": "batch"}, 0, 0),
    "gem": ({"samples": 8}, 0, 16),
    "lora": ({}, 0, 0),
}


@pytest.mark.parametrize("method", EXTRA)
def test_images_beside_the_batches_are_counted(recipe, method):
    settings, first, third = EXTRA[method]
    parsed = parse(recipe | {"methods": {method: settings}})
    made = try_out(alone(parsed), outline(parsed)[0])
    assert (made.extra(0), made.extra(2)) == pytest.approx((first, third))


@pytest.mark.parametrize(("method", "passes"), [("ewc", 1), ("mas", 1), ("inflora", 2)])
def test_a_trial_is_an_ordinary_short_run(recipe, method, passes):
    parsed = parse(recipe | {"methods": {method: {}}})
    made = try_out(alone(parsed), outline(parsed)[0])
    assert [event.event for event in made.tasks] == ["task"] * STAGES
    assert made.images[2] == 2 * made.images[1]
    assert made.passed(1000) == pytest.approx(passes * 1000, rel=0.01)  # for what matters
    for event in made.tasks[1:3]:
        fit = event.parts["fit"]
        assert made.fit(event.steps, fit.trained) > 0  # how near, made-up times tell below


@pytest.mark.parametrize(
    ("known", "took", "of_100"),
    [
        ([(2,), (16,)], [0.08, 0.22], 0.06 + 1.0),  # a fixed part and 10 ms an image
        ([(2,), (16,)], [0.02, 0.01], 0.015),  # an image takes something or nothing
        ([(4,), (4,)], [0.04, 0.08], 1.5),  # of one size nothing is known to be fixed
        ([(0,), (0,)], [0.0, 0.0], 0.0),
    ],
)
def test_what_grows_with_a_number(known, took, of_100):
    assert grown(known, took, 100) == pytest.approx(of_100)
    assert grown(known, took, 0) == 0


def test_nothing_grows_from_less_than_nothing():
    assert grown([(2,), (16,)], [0.02, 0.30], 100) == pytest.approx(2, rel=0.1)


def test_a_step_takes_something_whatever_its_batch():
    steps = [(1, 2), (4, 8), (1, 8)]  # a second to start, 3 a step, 0.5 an image
    took = [1 + 3 * count + 0.5 * images for count, images in steps]
    assert grown(steps, took, 10, 320) == pytest.approx(1 + 30 + 160)


def test_what_a_batch_keeps_for_the_backward_pass_is_counted_in_bytes():
    wide, features = 1000, 3 * 64
    model = nn.Sequential(nn.Flatten(), nn.Linear(features, wide), nn.GELU(), nn.Linear(wide, 2))
    inputs = torch.zeros(100, 3, 8, 8)
    found = kept_backward(model, inputs)
    assert sum(found) == 100 * 4 * (features + 2 * wide)
    assert max(found) == 100 * 4 * wide
    assert kept_backward(model.requires_grad_(False), inputs) == []


def test_a_frozen_trunk_is_not_trained(recipe):
    recipe["methods"] = {"linear_probe": {}}
    frozen = estimate(recipe)
    assert frozen.memory["gradients"] < frozen.memory["parameters"] / 20
    assert frozen.memory["activations"] < estimate(recipe | {"methods": {}}).memory["activations"]


def test_a_trial_serves_recipes_that_differ_in_length_alone(recipe, monkeypatch):
    made = []
    monkeypatch.setattr(
        "clbench.estimate.estimating.try_out", lambda *args: made.append(args) or try_out(*args)
    )
    shared = {}
    first = estimate(recipe, shared)
    again = estimate(recipe | {"steps": 12, "seed": 1, "eval_every": 3}, shared)
    assert len(made) == 1
    assert again.total.steps == 2 * first.total.steps
    ewc = estimate(recipe | {"methods": {"ewc": {}}}, shared)
    assert ewc.memory["methods"] > first.memory["methods"]
    estimate(recipe | {"images": {"size": 12}}, shared)
    assert len(made) == 3


def test_memory_grows_with_the_batch_by_what_it_keeps(recipe):
    shared = {}
    small, large = (estimate(recipe | {"batch_size": b}, shared).memory for b in (64, 6400))
    grown = large["activations"] - small["activations"]
    assert grown == pytest.approx(99 * small["activations"], rel=0.1)
    assert large["peak"] - small["peak"] == pytest.approx(grown, rel=0.2)


@pytest.mark.slow
def test_a_large_network_on_a_cpu(recipe):
    recipe["model"] = {"backbone": "vit_base_patch16_224", "weights": "none"}
    recipe |= {"images": {"size": 224}, "batch_size": 128}
    assert 10e9 < estimate(recipe).memory["peak"] < 30e9


RESNET = {"backbone": "resnet10t", "weights": "none", "options": {}}


def test_a_last_image_joins_the_batch_before_it(recipe):
    sizes = {"first_tasks": 1, "train_per_class": 29, "validation": 0}
    more = {"stream": sizes, "images": {"size": 32}, "model": RESNET, "epochs": 2, "batch_size": 19}
    made = estimate(merge(recipe, more))
    assert (made.tasks[0].steps, made.tasks[0].samples) == (2 * 3, 2 * 58)
    with pytest.raises(ClbenchError, match=r"batch_size = 1: .* BatchNorm, which needs at least 2"):
        estimate(merge(recipe, more | {"batch_size": 1}))


def test_a_network_that_a_run_would_refuse_is_refused(recipe):
    recipe["model"] = RESNET | {"options": {"in_chans": 1}}
    with pytest.raises(ClbenchError, match=r"in_chans.*does not run on 32 × 32 images"):
        estimate(merge(recipe, {"images": {"size": 32}}))


def test_a_process_beside_others_estimates_for_all(recipe, monkeypatch):
    variables = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0}
    for name, value in (variables | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(name, str(value))
    assert estimate(merge(recipe, {"stream": {"first_tasks": 1}})).total.steps


def test_a_try_is_what_it_is_without_looks_at_anything_else(recipe):
    shared = {}
    whole = estimate(recipe | {"evaluate": "all", "eval_every": 2}, shared)
    plain = merge(recipe, {"retention": {"data": "none"}})
    tried = estimate(plain, shared)
    assert whole.seconds > tried.seconds
    assert whole.of_try(2) == pytest.approx(tried.of_try(2))


def test_no_room_in_the_temporary_folder_is_one_line(recipe, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ClbenchError, match="make room, or set TMPDIR to a folder on another disk"):
        estimate(recipe)
    monkeypatch.undo()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("clbench.record.checkpoints.torch.save", full)
    with pytest.raises(ClbenchError, match=r"No space left.*; or set TMPDIR to a folder"):
        estimate(recipe)
