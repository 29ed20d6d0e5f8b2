import json

import pytest
import torch
from clips import model as clip
from clips import required
from helpers import RECIPE, fake_train

from clbench.errors import ClbenchError
from clbench.recipe.merging import merge
from clbench.recipe.recipe import parse
from clbench.runner.runner import run
from clbench.streams import Stream
from clbench.suite import comparison, forecast
from clbench.suite.suite import expand
from clbench.suite.tuning import Range, Search, read_tuning, score_of, try_of

SUITE = {
    "base": merge(RECIPE, {"model": {"weights": "none"}, "eval_every": 2}),
    "methods": {"plain": {}, "sfa": {"sfa": {"p": 0.5}}},
    "tune": {
        "tries": 3,
        "tasks": 2,
        "seed": 7,
        "space": {"optimizer.lr": [0.001, 0.01, 0.1]},
        "methods": {"sfa": {"methods.sfa.beta": {"low": 0.1, "high": 0.9}}},
    },
    "seeds": [0, 1],
}


@pytest.fixture
def fake(monkeypatch, tmp_path):
    fake_train(monkeypatch, tmp_path)
    return tmp_path / "out"


def without(suite, *keys):
    tune = {k: v for k, v in suite["tune"].items() if k not in keys}
    return suite | {"tune": tune}


def recipes(folder):
    return [json.loads(path.read_text().splitlines()[0]) for path in folder.glob("*/record.jsonl")]


def test_every_method_gets_its_tries_and_runs_with_its_best(fake):
    comparison.compare(without(SUITE, "methods"), fake, jobs=2)
    told = json.loads((fake / "tuning.json").read_text())
    assert [cell["name"] for cell in told["cells"]] == ["plain", "sfa"]
    for cell in told["cells"]:
        tried = {t["settings"]["optimizer.lr"]: t["value"] for t in cell["tries"]}
        assert tried == {0.001: pytest.approx(0.99), 0.01: pytest.approx(0.9), 0.1: None}
        assert cell["tries"][cell["chosen"]]["settings"] == {"optimizer.lr": 0.001}
        failed = next(t for t in cell["tries"] if t["value"] is None)
        assert (failed["state"], failed["reason"]) == ("failed", "diverged")
        assert all((fake / t["folder"] / "config.yaml").is_file() for t in cell["tries"])
    assert {event["test_on"] for event in recipes(fake / "tries")} == {"validation"}
    assert {event["seed"] for event in recipes(fake / "tries")} == {7}
    finals = recipes(fake / "runs")
    assert len(finals) == 4
    assert {event["test_on"] for event in finals} == {"test"}


def test_finished_tries_are_not_run_again(fake):
    comparison.compare(SUITE, fake)
    grid = list(forecast.plan(expand(SUITE, "s"), fake))
    assert grid[-1].startswith("4 runs: 4 finished, 0 to do; before them 6 tries")
    before = json.loads((fake / "tuning.json").read_text())
    comparison.compare(SUITE, fake, jobs=2)
    assert json.loads((fake / "tuning.json").read_text()) == before
    finished = [p for p in fake.glob("*/*/started") if (p.parent / "record.jsonl").exists()]
    assert {path.read_text() for path in finished} == {"x"}


def test_a_method_whose_tries_all_fail_does_not_stop_the_rest(fake):
    space = {"plain": {"optimizer.lr": [0.1]}, "sfa": {"optimizer.lr": [0.01]}}
    suite = SUITE | {"tune": {"tries": 1, "methods": space}}
    made = comparison.compare(suite, fake)
    assert made.failures == {"plain": "all 1 tries failed, the last: diverged"}
    assert {g.label for s in made.sections for g in s.groups} == {"sfa"}


def test_lists_are_tried_without_repetition_and_ranges_stay_in_range():
    grid = Search("a", "a", {"x": [1, 2], "y": ["p", "q"]}, seed=3)
    seen = []
    for number in range(4):
        seen.append(tuple(grid.ask().settings.values()))
        grid.tell(float(number))
    assert sorted(seen) == [(1, "p"), (1, "q"), (2, "p"), (2, "q")]
    assert grid.chosen == 3
    ranges = {"r": Range(low=0.001, high=0.1, log=True), "n": Range(low=1, high=3)}
    drawn = []
    for seed in (3, 3, 4):
        search = Search("a", "a", ranges, seed)
        settings = []
        for _ in range(5):
            settings.append(search.ask().settings)
            search.tell(0.5)
        drawn.append(settings)
        assert all(0.001 <= s["r"] <= 0.1 and s["n"] in (1, 2, 3) for s in settings)
        assert search.chosen == 0  # the first of equals
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_a_method_must_have_can_be_searched_for_alone(fake):
    """`data` and `embeddings` have no default; the suite gives one of them to tuning alone."""
    places = required()["zscl"]
    rows = {"zscl": {"zscl": {"data": places["data"]}}}
    space = {"methods.zscl.embeddings": [places["embeddings"]]}
    base = SUITE["base"] | {"model": clip(), "images": {"size": 8}}
    suite = {"base": base, "methods": rows, "tune": {"tries": 1, "space": space}, "seeds": [0]}
    made = expand(suite, "s")
    assert made.runs[0].recipe.methods["zscl"].embeddings == places["embeddings"]
    (line, *_) = forecast.plan(made, fake)
    assert line.startswith("zscl-seed0")
    with pytest.raises(ClbenchError, match="embeddings"):
        expand({k: v for k, v in suite.items() if k != "tune"}, "s")
    written = SUITE["base"] | {"optimizer": {"lr": 0.5}}
    kept = expand(SUITE | {"base": written}, "s").runs[0]
    assert kept.recipe.optimizer.lr == 0.5  # what is written stands until tuning has chosen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tries": 4}, "tries = 4, but the lists of plain make 3 settings"),
        ({"tires": 4}, r"unknown key tune\.tires \(did you mean tune\.tries\?\)"),
        ({"space": {}}, "nothing to search for plain"),
        ({"methods": {"sfb": {"a": [1]}}}, r"no such method \(did you mean sfa\?\)"),
        ({"space": {"optimizer.lr": {"low": 1, "high": 0}}}, "1 … 0 is no range"),
        ({"space": {"optimizer.lr": [-1, 0.1, 1]}}, "plain, seed7: optimizer.lr = -1"),
        ({"space": {"optimizer.lt": [1, 2, 3]}}, "unknown key optimizer.lt"),
        ({"space": {"methods.sfa.p": [0.1, 0.2, 0.3]}}, "plain, which does not use that method"),
    ],
)
def test_one_clear_line_for_every_mistake(changes, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        expand(SUITE | {"tune": SUITE["tune"] | changes}, "s")
    assert "\n" not in str(caught.value)


def test_a_try_reads_no_test_data_and_is_the_beginning_of_the_run(tmp_path, monkeypatch):
    values = SUITE["base"]
    tuning = read_tuning(SUITE["tune"], ["plain", "sfa"])
    whole = run(parse(merge(values, {"eval_every": None})), tmp_path / "whole")

    def no_test_images(self, **_):
        raise AssertionError("test images were touched")

    on_validation = Stream.on_validation

    def guarded(self):
        for images in (self.test_images,):
            monkeypatch.setattr(images, "take", no_test_images)
        return on_validation(self)

    monkeypatch.setattr(Stream, "on_validation", guarded)
    recipe = parse(merge(values, try_of(tuning, {"optimizer.lr": values["optimizer"]["lr"]})))
    tried = run(recipe, tmp_path / "try")
    for mine, theirs in zip(tried.tasks, whole.tasks[:2], strict=True):
        assert mine.task_incremental == theirs.validation.task_incremental
        assert mine.loss == theirs.loss
    last = whole.tasks[1].validation.task_incremental
    assert score_of(tried, "task_incremental") == pytest.approx(sum(last) / 2)
    assert tried.accuracy_matrix().shape == (2, 2)


def test_streams_are_cut_short_or_refuse(tmp_path):
    def build(**fields):
        return parse(merge(SUITE["base"], {"stream": fields, "data_dir": tmp_path})).build_stream()

    stream, first = build(), build(first_tasks=2)
    assert [t.name for t in first.tasks] == [t.name for t in stream.tasks[:2]]
    assert first.class_names == stream.class_names
    assert first.task_of_class.tolist() == [0, 0, 1, 1, -1, -1]
    assert torch.equal(first.tasks[1].train.index, stream.tasks[1].train.index)
    assert first.manifest_hash != stream.manifest_hash
    with pytest.raises(ClbenchError, match=r"first_tasks = 9, but the stream has"):
        build(first_tasks=9)
    with pytest.raises(ClbenchError, match=r"raise stream\.validation"):
        build(validation=0, test_on="validation")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"optimizer.lr": [0.1, 0.1]}, "optimizer.lr = .* names a value twice"),
        ({"seed": [0, 1]}, "seed is no setting to be chosen"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(space, message):
    with pytest.raises(ClbenchError, match=message):
        read_tuning({"tries": 2, "space": space}, ["sfa"])
