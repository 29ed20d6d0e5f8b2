"""What differs between two methods' runs besides the methods, and how the report says it."""

import copy
import csv
import io
import re

import pytest
import records
from report.made_up import run_folder

from clbench.report import tables
from clbench.report.compare import compare
from clbench.report.confounds import MARK
from clbench.report.differences import differences
from clbench.report.html import page
from clbench.report.pooled import pooled

RECIPE = {
    "stream": {"name": "split_digits"},
    "model": {"backbone": "tiny_cnn", "head": "random", "probe": {"lr": 0.01}},
    "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0},
    "schedule": {"name": "constant", "warmup": 0.0},
    "steps": 10,
    "batch_size": 10,
    "train_logits": "task",
}


def recipe(**changes):
    made = copy.deepcopy(RECIPE)
    for key, value in changes.items():
        section, _, rest = key.partition("__")
        made |= {section: made.get(section, {}) | {rest: value}} if rest else {key: value}
    return made


def section_of(tmp_path, one, other, **more):
    """A section of two methods, one run each; each is (methods, config, what else is made up)."""
    for name, (methods, config, about) in {"one": one, "other": other}.items():
        run_folder(tmp_path, methods, config=config, folder=name, title=f"{name}-seed0", **about)
    (section,) = compare([tmp_path], **more).sections
    groups = {group.label: group for group in section.groups}
    return section, groups["one"], groups["other"]


def parts(tmp_path, one, other, **more):
    section, a, b = section_of(tmp_path, one, other, **more)
    return [c.part for c in section.confounds(a, b)]


def test_a_method_alone_is_no_confound(tmp_path):
    assert not parts(
        tmp_path, ({"sfa": {}}, recipe(methods={"sfa": {"p": 0.9}}), {}), ({}, recipe(), {})
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"optimizer__lr": 0.1}, ["optimizer.lr"]),
        ({"optimizer__name": "adamw", "optimizer__momentum": 0.0}, ["optimizer.name"]),
        ({"optimizer__momentum": 0.0}, ["optimizer.momentum"]),
        ({"optimizer__weight_decay": 0.1}, ["optimizer.weight_decay"]),
        ({"schedule__name": "cosine"}, ["schedule.name"]),
        ({"batch_size": 20}, ["batch_size"]),
        ({"model__head": "linear_probe"}, ["model.head"]),
        ({"model__batch_norm": "frozen"}, []),  # only one averages
        ({"train_logits": "all"}, ["train_logits"]),
        ({"augment": {"flip": True}}, ["augment.flip"]),
        ({"per_task": {"task 0": {"optimizer": {"lr": 0.2}}}}, ["optimizer.lr"]),
        ({"per_task": {"task 0": {"methods": {"sfa": {"p": 0.2}}}}}, []),
        ({"per_task": {"task 0": {"optimizer": {"lr": 0.01}}}}, []),  # that of all
        ({"eval_every": 5}, []),  # what is looked at, not what is learned
        ({"name": "x"}, []),
        ({"data_dir": "elsewhere"}, []),
        ({"augment": {"flip": False}}, []),  # the default
        ({"model__probe": {"lr": 0.02}}, []),  # no head is probed
        ({"steps": 20}, []),  # in the records they are equal
        ({"optimizer__lr": 0.1, "schedule__name": "cosine"}, ["optimizer.lr", "schedule.name"]),
    ],
)
def test_what_differs_besides_the_method(tmp_path, changes, expected):
    assert parts(tmp_path, ({"sfa": {}}, recipe(**changes), {}), ({}, recipe(), {})) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (["sfa"], ["wise_ft"], ["model.batch_norm"]),
        (["sfa"], ["sfa", "l2"], ["model.batch_norm"]),
        (["sfa"], ["l2"], []),
        (["l2"], ["ewc"], []),
        (["stranger"], ["sfa"], ["model.batch_norm"]),  # nobody knows whether it averages
    ],
)
def test_statistics_of_averages_matter_where_both_average(tmp_path, one, other, expected):
    rules = [recipe(model__batch_norm=rule) for rule in ("frozen", "recompute")]
    runs = [({n: {} for n in names}, c, {}) for names, c in zip((one, other), rules, strict=True)]
    assert parts(tmp_path, *runs) == expected


@pytest.mark.parametrize("shared", [(True, True), (False, False)])
def test_logits_in_the_loss_are_all_there_are_where_tasks_share_labels(tmp_path, shared):
    one, other = ({"shared_labels": value} for value in shared)
    expected = [] if all(shared) else ["train_logits"]
    runs = ({"l2": {}}, recipe(train_logits="all"), one), ({}, recipe(), other)
    assert parts(tmp_path, *runs) == expected


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"weights": "c" * 64}, ["weights"]),
        ({"manifest": "c" * 64}, ["splits"]),
        ({"retention_images_sha256": "d" * 64}, ["retention"]),
    ],
)
@pytest.mark.parametrize("apart", [0, 1, 2])
def test_one_seed_that_differs_is_enough(tmp_path, about, expected, apart):
    for seed in range(3):
        same = {"retention_images_sha256": "e" * 64, "config": recipe()}
        run_folder(tmp_path, {"l2": {}}, seed, **same | (about if seed == apart else {}))
        run_folder(tmp_path, {}, seed, **same)
    run_folder(tmp_path, {}, 3, **same | about)  # a seed that only one has is no pair
    (section,) = compare([tmp_path]).sections
    groups = {group.label: group for group in section.groups}
    found = section.confounds(groups["l2"], groups["sequential"])
    assert [c.part for c in found] == expected


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"weights": "c" * 64}, ["weights"]),
        ({"manifest": "c" * 64}, ["splits"]),
        ({"retention_images_sha256": "d" * 64}, ["retention"]),
    ],
)
def test_what_the_records_say(tmp_path, about, expected):
    same = {"retention_images_sha256": "e" * 64}
    assert parts(tmp_path, ({}, recipe(), same | about), ({"l2": {}}, recipe(), same)) == expected


def test_texts_of_retention_are_told_with_its_images(tmp_path):
    """One fingerprint is of both: the file's name alone says nothing, as of images."""
    runs = []
    for methods, path, digest in (({"l2": {}}, "a.npz", "d"), ({}, "b.npz", "e")):
        config = recipe(retention__measures={"zero_shot": {"embeddings": path}})
        runs.append((methods, config, {"retention_images_sha256": digest * 64}))
    section, one, other = section_of(tmp_path, *runs)
    assert [c.words for c in section.confounds(one, other)] == [
        "images of retention, or texts that they are compared with, dddddddddddd, not eeeeeeeeeeee"
    ]


def test_places_of_equal_data_are_no_difference(tmp_path):
    here, there = recipe(stream__train="here"), recipe(stream__train="there")
    assert not parts(tmp_path, ({"l2": {}}, here, {}), ({}, there, {}))
    away = {"manifest": "c" * 64}
    assert parts(tmp_path / "2", ({"l2": {}}, here, away), ({}, there, {})) == ["stream.train"]


def layers(moving):
    return records.MODES | {"batch_norms_in_training_mode": moving}


def edit(folder, **changes):
    """Change the tasks of a record."""
    records.edit(folder, lambda event: event["event"] == "task" and event.update(changes))


@pytest.mark.parametrize(
    ("methods", "changes", "expected"),
    [
        ({"replay": {}}, {"steps": 11}, ["steps"]),
        ({"replay": {}}, {"samples": 97}, []),  # a partial batch
        ({"replay": {}}, {"samples": 50}, ["samples"]),
        ({"multitask": {}}, {"steps": 20, "samples": 200}, []),  # one stage, as much in total
        ({"multitask": {}}, {"steps": 10, "samples": 100}, ["steps"]),
        ({"lora": {}}, {"modes": layers(0)}, ["batch_norm"]),
        ({"linear_probe": {}}, {"modes": layers(0)}, []),
    ],
)
def test_length_and_layers_are_read_from_the_records(tmp_path, methods, changes, expected):
    for name, used in (("one", methods), ("other", {})):
        folder = run_folder(tmp_path, used, config=recipe(), folder=name, title=f"{name}-seed0")
        before = {"modes": layers(3)}
        edit(folder, **before | (changes if name == "one" else {}))
    (section,) = compare([tmp_path]).sections
    groups = {group.label: group for group in section.groups}
    assert [c.part for c in section.confounds(groups["one"], groups["other"])] == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        # What `update` is to a trunk that trains, `update_all` is to a frozen one.
        (("update", 3), ("update_all", 3), []),
        (("frozen", 0), ("update", 0), []),  # no BatchNorm, or a frozen trunk
        (("frozen", 0), ("update", 3), ["model.batch_norm_training"]),  # said once
        (("frozen", None), ("update", 3), ["model.batch_norm_training"]),
    ],
)
@pytest.mark.parametrize("methods", [{}, {"linear_probe": {}}])
def test_rules_of_batch_norm_are_judged_by_the_layers_that_move(
    tmp_path, methods, ours, theirs, expected
):
    for name, used, (rule, moving) in (("one", methods, ours), ("other", {}, theirs)):
        config = recipe(model__batch_norm_training=rule)
        folder = run_folder(tmp_path, used, config=config, folder=name, title=f"{name}-seed0")
        edit(folder, modes=None if moving is None else layers(moving))
    (section,) = compare([tmp_path]).sections
    groups = {group.label: group for group in section.groups}
    assert [c.part for c in section.confounds(groups["one"], groups["other"])] == expected


def with_methods(methods):
    return methods, recipe(methods=methods), {}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # A setting of a method that both use, beside the method that is compared.
        ({"gem": {"margin": 0.5}, "mofo": {}}, {"gem": {"margin": 0.0}}, ["methods.gem.margin"]),
        ({"gem": {"margin": 0.5}, "mofo": {}}, {"gem": {"margin": 0.5}}, []),
        ({"gem": {}, "mofo": {}}, {"gem": {"margin": 0.5}}, []),  # its default
        # One setting is what is compared; of two, nobody knows which.
        ({"sfa": {"p": 0.9, "beta": 0.5}}, {"sfa": {"p": 1.0, "beta": 0.5}}, []),
        (
            {"sfa": {"p": 0.9, "beta": 0.5}},
            {"sfa": {"p": 1.0, "beta": 0.75}},
            ["methods.sfa.beta", "methods.sfa.p"],
        ),
        ({"l2": {"strength": 1.0}}, {"ewc": {"strength": 10.0}}, []),
    ],
)
def test_settings_of_methods(tmp_path, one, other, expected):
    assert parts(tmp_path, with_methods(one), with_methods(other)) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (["flow", "l2"], ["flow"], ["model.probe.lr"]),
        (["sfa", "head_refit"], ["head_refit"], ["model.probe.lr"]),
        (["flow"], [], []),  # its own
        (["flow"], ["head_refit"], []),
    ],
)
def test_heads_that_methods_probe_are_probed_alike(tmp_path, one, other, expected):
    made = [{name: {} for name in names} for names in (one, other)]
    rates = [recipe(model__probe={"lr": lr}, methods=m) for lr, m in zip((1, 2), made, strict=True)]
    assert parts(tmp_path, (made[0], rates[0], {}), (made[1], rates[1], {})) == expected


def test_tries_of_tuning_are_a_budget(tmp_path):
    cells = [{"name": "one", "method": "one", "tries": [{"value": 0.5}] * 4, "chosen": 0}]
    plain = {}, recipe(), {}
    one = {"l2": {}}, recipe(), {}
    assert parts(tmp_path / "1", one, plain, tuning={"cells": cells}) == ["tuning"]
    cells += [cells[0] | {"name": "other", "method": "other"}]
    assert not parts(tmp_path / "2", one, plain, tuning={"cells": cells})


@pytest.mark.parametrize("suite", [True, False])
@pytest.mark.parametrize("last", ["tiny_cnn", "tiny_mlp"])
def test_tries_of_tuning_are_those_of_the_stream_and_the_backbone(tmp_path, last, suite):
    """On one backbone both methods had four tries, on the other one of them had but two."""
    cells, order = [], [b for b in ("tiny_cnn", "tiny_mlp") if b != last] + [last]
    for backbone in order:
        for name in ("one", "other"):
            tries = 2 if (backbone, name) == ("tiny_mlp", "one") else 4
            cell, methods = f"split_digits-{backbone}-{name}", {"l2": {}} if name == "one" else {}
            more = {"tries": [{"value": 0.5}] * tries, "chosen": 0}
            cells.append({"name": cell, "method": name} | more)
            folder = f"{cell}-seed0-0123abcd" if suite else f"{backbone}-{name}"
            about = {"folder": folder, "title": f"{name}-seed0", "backbone": backbone}
            run_folder(tmp_path, methods, config=recipe(model__backbone=backbone), **about)
    for section in compare([tmp_path], tuning={"cells": cells}).sections:
        one, other = sorted(section.groups, key=lambda group: group.label)
        found = [c.words for c in section.confounds(one, other)]
        uneven = section.backbone == "tiny_mlp"
        assert found == (["tries of tuning 2, not 4"] if uneven else [])


def test_without_recipes_nobody_knows(tmp_path):
    section, a, b = section_of(tmp_path, ({"l2": {}}, None, {}), ({}, recipe(), {}))
    assert section.confounds(a, b)[0].words == "unknown, as config.yaml is not there"


def test_words_and_parts(tmp_path):
    fast = recipe(optimizer__lr=0.1, optimizer__name="adamw")
    section, a, b = section_of(tmp_path, ({"l2": {}}, fast, {}), ({}, recipe(), {}))
    rate, kind = section.confounds(a, b)
    assert rate.words == "learning rate 0.1, not 0.01"
    assert kind.words == "optimiser adamw, not sgd"
    assert rate.within(["optimizer"])
    assert rate.within(["optimizer.lr"])
    assert not rate.within(["optimizer.l", "schedule"])
    both = section.confounds(b, a)
    assert both[0].words == "learning rate 0.01, not 0.1"


def test_per_task_settings_are_counted(tmp_path):
    own = {f"task {i}": {"optimizer": {"lr": 0.2}} for i in range(2)}
    section, a, b = section_of(tmp_path, ({"l2": {}}, recipe(per_task=own), {}), ({}, recipe(), {}))
    (found,) = section.confounds(a, b)
    assert found.words == "learning rate 0.2, not 0.01 (in 2 tasks)"


@pytest.mark.parametrize("odd", [["x"], "x", 7, {"task 0": 3}, None])
def test_recipes_that_no_run_wrote(tmp_path, odd):
    keys = ("per_task", "optimizer__lr", "model", "methods")
    strange = recipe(**{key: copy.deepcopy(odd) for key in keys})
    for name, used in (("one", {"l2": {}}), ("other", {})):
        config = strange if name == "one" else recipe()
        run_folder(tmp_path, used, config=config, folder=name, title=f"{name}-seed0")
    made = compare([tmp_path])
    assert len(made.runs) == 2
    assert MARK in tables.markdown(made)


@pytest.fixture
def comparison(tmp_path):
    """Two baselines; l2 differs from one in nothing else, mofo from both in its rate."""
    rates = {"slow": 0.01, "fast": 0.1}
    for seed in range(3):
        for name, rate in rates.items():
            about = {"folder": f"{name}{seed}", "title": f"{name}-seed{seed}"}
            config = recipe(optimizer__lr=rate, augment={"flip": False, "jitter": rate})
            run_folder(tmp_path, {}, seed, 0.5 + rate + seed / 100, config=config, **about)
        far = recipe(optimizer__lr=0.1, augment={"flip": False, "jitter": 0.1}, eval_every=1)
        run_folder(tmp_path, {"l2": {}}, seed, 0.7 + seed / 90, config=far)
        other = recipe(optimizer__lr=0.05, augment={"flip": False, "jitter": 0.01})
        run_folder(tmp_path, {"mofo": {}}, seed, 0.7 + seed / 90, config=other)
    return compare([tmp_path])


def test_a_method_is_compared_with_the_baseline_that_differs_in_nothing_else(comparison):
    (section,) = comparison.sections
    groups = {group.label: group for group in section.groups}
    assert section.baseline("sequential", groups["l2"]) is groups["fast"]
    assert section.besides("sequential", groups["l2"]) == ()
    assert section.baseline("sequential", groups["mofo"]) is groups["slow"]
    assert [c.part for c in section.besides("sequential", groups["mofo"])] == ["optimizer.lr"]
    assert section.baseline("sequential", groups["fast"]) is None


@pytest.mark.parametrize(("scope", "shown"), [(0.051, "0.05"), (None, "–")])
def test_differences_say_how_much_a_method_could_do(tmp_path, scope, shown):
    section, *_ = section_of(
        tmp_path, ({}, recipe(), {}), ({"ewc": {}}, recipe(), {"scope": scope})
    )
    table = differences(section, "task_incremental")
    place = [head.text for head in table.heads].index("Scope")
    assert [line[place].text for line in table.body] == [shown]


def test_every_output_marks_a_difference_that_is_no_test(comparison):
    rows = list(csv.DictReader(io.StringIO(tables.leaderboard_csv(comparison))))
    mofo = next(row for row in rows if row["method"] == "mofo")
    l2 = next(row for row in rows if row["method"] == "l2")
    assert mofo["besides_sequential"] == "learning rate 0.05, not 0.01"
    assert (l2["besides_sequential"], l2["nearest_sequential"]) == ("", "fast")
    assert mofo["overall_performance_minus_sequential_p_holm"] == ""
    assert float(l2["overall_performance_minus_sequential_p_holm"]) < 0.05
    kept = list(csv.DictReader(io.StringIO(tables.kept_csv(comparison))))
    found = {row["method"]: row["besides_sequential"] for row in kept}
    assert found["mofo"] == "learning rate 0.05, not 0.01"
    assert found["l2"] == ""
    for text, mark in (
        (tables.markdown(comparison), MARK),
        (tables.latex(comparison), r"$\dagger$"),
        (page(comparison, {}, "Made up"), MARK),
    ):
        marked = [line for line in re.split("\n|</?tr>", text) if mark in line]
        assert any("mofo" in line for line in marked)
        assert not any("l2" in line and "mofo" not in line for line in marked)
        assert "learning rate 0.05, not 0.01" in text
        assert "What differs besides the method" in text
        assert "nothing" in text


def test_differences_of_many_methods_are_corrected(tmp_path):
    """A difference that is clear alone is within noise among twenty."""
    for count in (1, 20):
        place = tmp_path / str(count)
        for seed, noise in enumerate((0.04, 0.05, 0.06)):
            run_folder(place, {}, seed, 0.5, config=recipe())
            for number in range(count):
                config = recipe(methods={"l2": {"strength": 1.0 + number}})
                folder, op = f"l2-{number}-{seed}", 0.5 + noise
                run_folder(place, {"l2": {}}, seed, op, config=config, folder=folder)
        (section,) = compare([place]).sections
        rows = [r for r in section.leaderboard("task_incremental") if r.group.runs[0].methods]
        noisy = [row.within_noise("sequential", "overall_performance") for row in rows]
        assert noisy == [count > 1] * count
        p = [row.p["sequential"]["overall_performance"] for row in rows]
        gap = rows[0].versus["sequential"]["overall_performance"]
        assert p == pytest.approx([min(1, count * gap.p)] * count)


def test_names_stand_for_one_group_only(tmp_path):
    for number, rate in enumerate((0.1, 0.2)):
        about = {"folder": str(number), "title": "plain-seed0"}
        run_folder(tmp_path, {}, config=recipe(optimizer__lr=rate), **about)
    run_folder(tmp_path, {"l2": {}}, config=recipe(), title="ours-seed0")
    (section,) = compare([tmp_path]).sections
    names = {group.name for group in section.groups}
    assert names == {"plain (optimizer.lr=0.1)", "plain (optimizer.lr=0.2)", "ours"}


def test_over_all_streams_the_baseline_is_the_one_that_differs_least(tmp_path):
    for tasks in (2, 3):
        for seed in range(2):
            for name, rate in (("slow", 0.01), ("fast", 0.1)):
                about = {"folder": f"{name}{tasks}{seed}", "title": f"{name}-seed{seed}"}
                config = recipe(optimizer__lr=rate)
                run_folder(tmp_path, {}, seed, 0.5 + rate, tasks=tasks, config=config, **about)
            for name, method, rate in (("a", "l2", 0.1), ("b", "sfa", 0.3)):
                about = {"folder": f"{name}{tasks}{seed}", "title": f"{name}-seed{seed}"}
                config, op = recipe(optimizer__lr=rate), 0.8 + seed / 50
                run_folder(tmp_path, {method: {}}, seed, op, tasks=tasks, config=config, **about)
    rows = {row.label: row for row in pooled(compare([tmp_path]), "task_incremental")}
    assert rows["a"].gap.mean == pytest.approx(0.81 - 0.6)
    assert rows["a"].besides == ()
    assert [c.part for c in rows["b"].besides] == ["optimizer.lr"]
    assert rows["fast"].gap is None


@pytest.mark.parametrize(
    "trainer",
    [
        {"enable_progress_bar": False},
        {"log_every_n_steps": 1, "profiler": "simple", "enable_model_summary": False},
        {"accelerator": "cpu", "benchmark": True, "deterministic": True},
        {"accumulate_grad_batches": 1, "gradient_clip_val": None, "num_nodes": 1},
        {"precision": "32-true", "strategy": "auto"},
    ],
)
def test_what_a_trainer_says_of_itself_is_no_difference(tmp_path, trainer):
    for seed, own in enumerate(({}, trainer)):
        about = {"folder": f"sfa-{seed}", "seed": seed}
        run_folder(tmp_path, {"sfa": {}}, config=recipe(trainer=own), **about)
    run_folder(tmp_path, {}, config=recipe(trainer={"precision": "bf16-mixed"}))
    (section,) = compare([tmp_path]).sections
    plain, sfa = section.groups
    assert [run.seed for run in sfa.runs] == [0, 1]
    assert [c.words for c in section.confounds(sfa, plain)] == [
        "trainer.precision –, not bf16-mixed"
    ]


def test_seeds_of_an_older_version_are_of_the_same_method(tmp_path):
    """Their recipe lacks what came since, which is as the default now."""
    new = {
        "model__batch_norm_training": "update",
        "schedule__over": "task",
        "stream__labels": "own",
    }
    for seed, own in enumerate((recipe(), recipe(**new), recipe(schedule__over="stream"))):
        run_folder(tmp_path, {"sfa": {}}, config=own, folder=f"sfa-{seed}", seed=seed)
    (section,) = compare([tmp_path]).sections
    assert [[run.seed for run in group.runs] for group in section.groups] == [[0, 1], [2]]


def test_of_a_recipe_that_is_lost_its_loss_is_all_that_is_said(tmp_path):
    section, one, other = section_of(tmp_path, ({"sfa": {}}, None, {}), ({}, recipe(), {}))
    assert [c.words for c in section.confounds(one, other)] == [
        "unknown, as config.yaml is not there"
    ]
