"""What parts rows onto boards, and what does not."""

import copy
from dataclasses import replace

import pytest
from board.labs import CONFIG
from report.made_up import run_folder

from clbench.board.boards import BoardRow, boards_of, same_but_order_of
from clbench.board.key import board_key
from clbench.report.gather import gather
from clbench.report.sorting import sections_of


def key(place, methods=None, stored=None, **run):
    run_folder(place, methods, **{"config": CONFIG} | run)
    (found,), _ = gather([place])
    (section,) = sections_of([found])
    if stored is not None:
        found.summary["footprint"].update(data_oblivious=False, stored_samples=stored)
    return board_key(section.groups[0])


def config(**changes):
    made = copy.deepcopy(CONFIG)
    for dotted, value in changes.items():
        inner = made
        *path, last = dotted.split("__")
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return made


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("stream", {"stream_version": 2}),
        ("tasks", {"names": ["b", "a"]}),
        ("splits", {"manifest": "c" * 64}),
        ("settings", {"config": config(stream__train_per_class=5)}),
        ("size", {"size": 32}),
        ("backbone", {"backbone": "resnet18"}),
        ("backbone", {"options": {"width": 2}}),
        ("weights", {"weights": "c" * 64}),
        ("weights", {"source": "other"}),
        ("protocol", {"train_logits": "all"}),
        ("protocol", {"independent": True}),
        ("memory", {"stored": 20}),
        ("budget", {"config": config(epochs=2)}),
        ("budget", {"config": config(steps=10)}),
        ("budget", {"config": config(per_task__a__epochs=9)}),
        ("bound", {"methods": {"multitask": {}}, "traits": {"multitask": ["joint"]}}),
    ],
)
def test_each_part_parts_rows(tmp_path, part, changes):
    one, other = key(tmp_path / "one"), key(tmp_path / "other", **changes)
    differ = {
        name for name in one.__dataclass_fields__ if getattr(one, name) != getattr(other, name)
    }
    assert differ == {part}
    assert one.name != other.name
    assert part in ("bound", "stream", "backbone") or one.apart(other)


def test_class_orders_are_told_apart_and_are_no_other_images(tmp_path):
    one = key(tmp_path / "one")
    other = key(tmp_path / "other", names=["b", "a"], manifest="c" * 64)
    assert (one.apart(other), other.apart(one)) == (
        "class order task 0 → task 1",
        "class order b → a",
    )
    assert one.whole_title.startswith(one.title)
    assert one.memory_words in one.whole_title


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": {"sfa": {"p": 0.5}}},
        {"seed": 7},
        {"config": config(optimizer__lr=0.5)},
        {"config": config(stream__test_on="test")},
        {"config": config(model__pretraining__epochs=9)},  # its weights are others' and named
        {"title": "another"},
    ],
)
def test_what_a_method_may_choose_parts_none(tmp_path, changes):
    assert key(tmp_path / "one") == key(tmp_path / "other", **changes)


def test_weights_that_a_seed_draws_are_one(tmp_path):
    made = {"source": "pretrain", "config": config(model__pretraining__epochs=9)}
    one = key(tmp_path / "one", **made)
    assert one == key(tmp_path / "other", seed=1, weights="c" * 64, **made)
    assert "pretraining.epochs 9" in one.settings_words
    fewer = made | {"config": config(model__pretraining__epochs=1)}
    assert key(tmp_path / "fewer", **fewer) != one


def row(place, name, **run):
    """A row of a board, of a run that differs."""
    made = key(place / name, **run)
    (found,), _ = gather([place / name])
    (section,) = sections_of([found])
    group = section.groups[0]
    return BoardRow(name, name, group, made, "self-reported", (), (f"page {name}",), (name,))


def test_the_bound_stands_beside_what_it_bounds_and_alone_where_there_is_nothing(tmp_path):
    joint = {"methods": {"multitask": {}}, "traits": {"multitask": ["joint"]}}
    plain, replay = row(tmp_path, "plain"), row(tmp_path, "replay", methods={"replay": {}})
    object.__setattr__(replay, "key", key(tmp_path / "kept", {"replay": {}}, stored=10))
    bound = row(tmp_path, "bound", **joint)
    lonely = row(tmp_path, "lonely", backbone="resnet18", **joint)
    boards = {board.key: board for board in boards_of([plain, replay, bound, lonely])}
    assert boards.keys() == {plain.key, replay.key, lonely.key}
    told = [one.submission for one in boards[replay.key].references]
    assert told == ["plain", "bound"]  # plain fine-tuning, too: it needs no memory
    assert [one.submission for one in boards[plain.key].references] == ["bound"]
    assert boards[plain.key].ranks("task_incremental") == {}  # one seed


def test_a_bound_in_dispute_is_still_shown(tmp_path):
    joint = {"methods": {"multitask": {}}, "traits": {"multitask": ["joint"]}}
    plain, bound = row(tmp_path, "plain"), row(tmp_path, "bound", **joint)
    bad = replace(bound, verdict="disputed", submission="bad")
    for rows in ([plain, bad], [plain, bound, bad]):
        boards = {board.key: board for board in boards_of(rows)}
        assert [one.submission for one in boards[bound.key].disputed] == ["bad"]
        assert boards[bound.key].rows == ()
        told = [one.submission for one in boards[plain.key].references]
        assert told == ["bound"] * (len(rows) - 2)


def test_orders_of_one_stream_are_a_family(tmp_path):
    rows = [row(tmp_path, "one"), row(tmp_path, "two", names=["b", "a"], manifest="c" * 64)]
    rows.append(row(tmp_path, "other", train_logits="all"))
    (family,) = same_but_order_of(boards_of(rows))
    assert {board.rows[0].submission for board in family} == {"one", "two"}
