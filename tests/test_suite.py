import io
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import records
import yaml
from helpers import fake_train
from rich.console import Console

from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.launch import local as launch
from clbench.launch.local import Job
from clbench.recipe.recipe import parse
from clbench.recipe.yamlfile import read
from clbench.runner.folder import plain, recipe_hash, recipe_of
from clbench.suite import comparison, done, forecast
from clbench.suite.missing import Inventory
from clbench.suite.suite import expand, load
from clbench.suite.watch import Watch, seconds_left

ROOT = Path(__file__).parent.parent
BASE = {
    "stream": {"name": "split_digits"},
    "model": {"backbone": "tiny_cnn", "weights": "none"},
    "steps": 1,
}
SUITE = {
    "base": BASE,
    "methods": {"plain": {}, "sfa": {"sfa": {"p": 0.5}}, "both": {"sfa": {}, "l2": {}}},
    "seeds": [0, 1],
}


@pytest.fixture
def fake(monkeypatch, tmp_path):
    fake_train(monkeypatch, tmp_path)
    return tmp_path / "out"


def started(out):
    return {p.parent.name.rsplit("-", 1)[0]: p.read_text() for p in out.glob("runs/*/started")}


def test_expansion_is_a_grid_with_stable_names():
    made = expand(SUITE, "s")
    names = [run.name.rsplit("-", 1)[0] for run in made.runs]
    assert names == [f"{m}-seed{s}" for m in ("plain", "sfa", "both") for s in (0, 1)]
    assert [run.name for run in expand(SUITE, "s").runs] == [run.name for run in made.runs]
    assert len({run.hash for run in made.runs}) == 6
    assert list(made.runs[4].recipe.methods) == ["sfa", "l2"]
    assert made.runs[1].recipe.seed == 1


def test_streams_backbones_and_overrides():
    more = {
        "streams": [{"tasks": 2}, {"tasks": 3}],
        "backbones": ["tiny_cnn", {"backbone": "tiny_vit"}],
        "overrides": {"sfa": {"optimizer": {"lr": 0.5}}},
    }
    made = expand(SUITE | more, "s")
    assert len(made.runs) == 2 * 2 * 3 * 2
    assert made.runs[0].name.startswith("tasks=2-tiny_cnn-plain-seed0-")
    assert {run.recipe.model.backbone for run in made.runs} == {"tiny_cnn", "tiny_vit"}
    rates = {run.method: run.recipe.optimizer.lr for run in made.runs}
    assert rates == {"plain": 0.01, "sfa": 0.5, "both": 0.01}


def test_class_orders():
    made = expand(SUITE | {"orders": ["label", 3, "legacy-1993"], "seeds": [0]}, "s")
    given = {run.name.rsplit("-", 1)[0]: run.recipe.stream for run in made.runs}
    assert len(made.runs) == 3 * 3
    assert [given[f"{name}-sfa-seed0"].order for name in ("order-label", "order3")] == [None] * 2
    assert given["order3-sfa-seed0"].order_seed == 3
    assert given["order-legacy-1993-sfa-seed0"].order == "legacy-1993"
    assert len({run.hash for run in made.runs}) == 9


def test_a_method_can_name_a_config_in_place_of_the_base(tmp_path):
    config = tmp_path / "own.yaml"
    own = BASE | {"steps": 7, "methods": {"sfa": {"p": 0.5}, "l2": {}}}
    config.write_text(yaml.safe_dump(own, sort_keys=False))
    methods = {"plain": {}, "own": {"config": str(config)}}
    methods["more"] = {"config": str(config), "sfa": {"beta": 0.25}, "l2": None, "l1": {}}
    backbones = [{"backbone": "tiny_vit", "weights": "none"}]
    made = expand(SUITE | {"methods": methods, "backbones": backbones, "seeds": [3]}, "s")
    plain_one, named, more = (run.recipe for run in made.runs)
    assert (plain_one.steps, named.steps, named.seed) == (1, 7, 3)
    assert named.model.backbone == "tiny_vit"
    assert list(named.methods) == ["sfa", "l2"]
    assert list(more.methods) == ["sfa", "l1"]
    assert (more.methods["sfa"].p, more.methods["sfa"].beta) == (0.5, 0.25)
    with pytest.raises(ClbenchError, match="no config 'nope'"):
        expand(SUITE | {"methods": {"own": {"config": "nope"}}}, "s")


def test_a_base_can_be_that_of_another_suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("suites").mkdir()
    Path("suites/first.yaml").write_text(yaml.safe_dump(SUITE | {"base": BASE | {"steps": 7}}))
    on_top = {"suite": "first", "optimizer": {"lr": 0.125}}
    (one,) = expand({"base": on_top, "methods": {"plain": {}}, "seeds": [3]}, "s").runs
    assert (one.recipe.steps, one.recipe.optimizer.lr) == (7, 0.125)
    Path("suites/named.yaml").write_text("base: default\nmethods: {a: {}}\n")
    Path("suites/second.yaml").write_text("base: {suite: first}\nmethods: {a: {}}\n")
    mistakes = {
        "gone": "no suite 'gone'",
        "second": "its base is that of 'first': name this one",
        3: "must be the name of a suite, got 3",
    }
    for name, said in mistakes.items():
        with pytest.raises(ClbenchError, match=said):
            expand({"base": {"suite": name}, "methods": {"a": {}}}, "s")
    made = expand({"base": {"suite": "named"}, "methods": {"a": {}}}, "s").runs[0].recipe
    assert made == parse(read("default") | {"methods": {}, "name": made.name})
    with pytest.raises(ClbenchError, match=r"base\.extends = 'first': only a file goes on"):
        expand({"base": {"extends": "first"}, "methods": {"a": {}}}, "s")


def test_flows_table_is_nine_configs_and_a_sweep_on_two_networks():
    made = load("flow")
    configs = {path.stem for path in (ROOT / "configs" / "flow").glob("*.yaml")}
    swept = {f"l2, strength {strength}" for strength in ("0.02", "0.2", "2")}
    assert {run.method for run in made.runs} == configs | swept
    assert len(made.runs) == 2 * len(configs | swept) == 24
    for run in made.runs[:12]:
        if run.method in configs:
            assert run.hash == recipe_hash(parse(read(f"flow/{run.method}.yaml")))
    weights = {run.recipe.model.backbone: run.recipe.model.weights for run in made.runs}
    assert weights == {"resnet18": "resnet18.tv_in1k", "resnet50": "resnet50.ram_in1k"}


def test_the_hash_is_of_what_decides_the_numbers():
    one = parse(BASE)
    same = parse(BASE | {"name": "other", "data_dir": "/elsewhere"})
    assert recipe_hash(one) == recipe_hash(same)
    assert recipe_hash(one) == recipe_hash(parse(BASE | {"process_timeout": 60}))
    assert recipe_hash(one) == recipe_hash(parse(BASE | {"checkpoints": "all"}))
    assert recipe_hash(one) != recipe_hash(parse(BASE | {"batch_size": 7}))
    assert recipe_hash(parse(plain(one))) == recipe_hash(one)
    orders = [parse(BASE | {"methods": m}) for m in ({"sfa": {}, "l2": {}}, {"l2": {}, "sfa": {}})]
    assert recipe_hash(orders[0]) != recipe_hash(orders[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, r"unknown key sedes in the suite \(did you mean seeds\?\)"),
        ({"stream": "x"}, r"unknown key stream in the suite \(did you mean streams\?\)"),
        (
            {"steps": 9},
            "unknown key steps in the suite: it is a field of recipes, which .* base",
        ),
        ({"methods": {}}, "methods must name settings"),
        ({"methods": {"a": {"sfq": {}}}}, "a, seed0: .*there is no method 'sfq'"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"seeds": [1, 1]}, "are the same run"),
        ({"streams": "x"}, "streams must be a list"),
        ({"orders": 3}, "orders must be a list of seeds of class orders, .* got 3"),
        ({"orders": [0.5]}, "orders: 0.5 is no whole number and no name"),
        ({"orders": ["lagacy"]}, "order-lagacy, plain, seed0: .*must be legacy-SEED"),
        ({"orders": ["label", "label"]}, "are the same run"),
        ({"overrides": {"sfb": {}}}, r"no such method \(did you mean sfa\?\)"),
    ],
)
def test_one_clear_line_for_every_mistake(changes, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        expand(SUITE | changes, "s")
    assert "\n" not in str(caught.value)


def test_the_suites_that_come_along_are_right():
    for path in (ROOT / "suites").glob("*.yaml"):
        assert load(path).runs


def test_an_unknown_suite():
    with pytest.raises(ClbenchError, match="there is no suite 'nope'"):
        load("nope")


def test_failure_does_not_stop_the_rest_and_finished_runs_are_reused(fake, capsys):
    made = comparison.compare(SUITE, fake, jobs=2)
    assert sorted(name.rsplit("-", 1)[0] for name in made.failures) == ["both-seed0", "both-seed1"]
    assert set(made.failures.values()) == {"no l2 today"}
    assert {g.label: len(g.runs) for s in made.sections for g in s.groups} == {"plain": 2, "sfa": 2}
    text = (fake / "report" / "report.html").read_text()
    assert "failed: no l2 today" in text
    assert "6 runs: 0 finished before, 6 to do." in capsys.readouterr().out
    renamed = SUITE | {"methods": {"other": {}, "sfa": {"sfa": {"p": 0.5}}}}
    again = comparison.compare(renamed, fake)
    assert set(started(fake).values()) == {"x"}  # nothing ran twice
    assert {g.label for s in again.sections for g in s.groups} == {"other", "sfa"}
    comparison.compare(SUITE, fake)  # what failed is tried again
    assert started(fake)["both-seed0"] == "xx"
    assert started(fake)["plain-seed0"] == "x"


def test_interrupted_runs_go_on_in_their_folder(fake):
    run = expand(SUITE, "s").runs[0]
    folder = fake / "runs" / "by another name"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(plain(run.recipe), sort_keys=False))
    records.write(folder, [records.run_event(tasks=["a"])])
    states = [p.state for p in done.survey(expand(SUITE, "s").runs, fake / "runs")]
    assert states == ["interrupted"] + ["new"] * 5
    comparison.compare(SUITE, fake)
    assert (folder / "started").exists()
    assert not (fake / "runs" / run.name).exists()


def test_dry_run_shows_the_grid_and_runs_nothing(fake, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SUITE, sort_keys=False))
    assert main(["compare", str(path), "--dry_run", "--output", str(fake)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    told = r"6 runs: 0 finished, 6 to do; about .* one after the other, .* and .* MB of disk\."
    assert re.fullmatch(told, lines[-1])
    assert not fake.exists()


def test_dry_run_takes_finished_runs_at_their_word(fake, monkeypatch):
    comparison.compare(SUITE | {"methods": {"plain": {}}, "seeds": [0]}, fake)

    def no_trial(*_):
        raise AssertionError("a finished run tells more than a trial")

    monkeypatch.setattr(forecast, "estimate", no_trial)
    suite = expand(SUITE | {"methods": {"plain": {}}}, "s")
    last = list(forecast.plan(suite, fake))[-1]
    assert last.startswith("2 runs: 1 finished, 1 to do; about 1.0 s one after the other")


def test_exit_codes(fake, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SUITE | {"seeds": [0]}, sort_keys=False))
    assert main(["compare", str(path), "--output", str(fake)]) == 1
    assert main(["report", str(fake), "--output", str(tmp_path / "r")]) == 0
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["compare", str(path), "--jobs", "0"]) == 2
    assert main(["compare"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert all(line.startswith("error: ") for line in told)


def test_sigterm_stops_the_runs_too(fake, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SUITE, sort_keys=False))
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(comparison, "train_words", lambda _: sleep)
    started = []

    def told_to_end(self, job):
        started.append(job.process)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Watch, "changed", told_to_end)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["compare", str(path), "--output", str(fake)]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert started[0].poll() == -signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().out


def job(state, seconds=0.0, name="a"):
    return Job(name, [], Path("log"), state=state, seconds=seconds)


def test_time_left():
    assert seconds_left(20, [], 0, 2) == 0
    # Two at a time: 20 s each on the average, of which 5 and 20 s are over; one is to come.
    assert seconds_left(20, [5, 25], 1, 2) == (15 + 0 + 20) / 2
    # One has just ended, and the next has not begun.
    assert seconds_left(20, [5], 1, 2) == 17.5


def test_the_table_tells_what_is_left():
    jobs = [job("finished", 80), job("waiting", name="b")]
    jobs += [job("running", 80, f"c{number}") for number in range(30)]
    shown = Console(width=60, record=True, file=io.StringIO())
    watch = Watch(jobs)
    watch.changed(None)
    shown.print(watch.table())
    text = shown.export_text()
    assert "1 of 32 done (about 2.7 s left)" in text
    assert "and 12 more" in text
    assert "80 s" in text


def test_what_is_told_of_jobs_follows_their_states(capsys):
    one, two = job("waiting"), job("waiting", name="b")
    watch = Watch([one, two])
    for state, seconds in (("running", 1), ("waiting", 5), ("running", 6), ("finished", 10)):
        one.state, one.seconds = state, seconds  # it was preempted in between
        watch.changed(one)
        watch.changed(None)
    two.state, two.reason = "failed", "no disk"
    watch.changed(two)
    assert capsys.readouterr().out.splitlines() == [
        "[1/2] a finished in 10.0 s (about 10 s left)",
        "[2/2] b failed: no disk",
    ]


def test_threads_and_gpus_are_shared_out(monkeypatch):
    monkeypatch.setattr(launch, "cores", lambda: 8)
    assert launch.shares(4, 3, ["0", "1"]) == dict.fromkeys(launch.THREADS, "2") | {
        "CUDA_VISIBLE_DEVICES": "1"
    }
    assert launch.shares(16, 0, [])["OMP_NUM_THREADS"] == "1"


def test_a_killed_process_says_so(tmp_path):
    (tmp_path / "log").write_text("fine so far\n")
    assert launch.why_failed(tmp_path / "log", -9).startswith("killed by signal 9")


def test_a_run_that_was_cut_off_goes_on_where_and_as_fast_as_the_suite_says_now(tmp_path):
    def planned(seconds, size):
        free = {"process_timeout": seconds, "eval_batch_size": size, "checkpoints": "none"}
        return expand(SUITE | {"seeds": [0], "base": BASE | free}, "s").runs

    started = []
    for free in ((30, 32), (60, 64)):
        places = done.survey(planned(*free), tmp_path / "runs")
        comparison._run(places, tmp_path, lambda jobs, _: started.append(jobs), Inventory(False))
    first, again = ([job.words for job in jobs] for jobs in started)
    assert first == again
    for place in places:
        recipe = recipe_of(place.folder)
        assert (recipe.process_timeout, recipe.eval_batch_size) == (60, 64)


def test_rows_of_a_sweep_have_names_of_their_own():
    values = SUITE | {"seeds": [0], "methods": {"sgd": {}}}
    swept = {"sgd": {"optimizer.lr": [0.1, 0.2], "model.probe.lr": [0.1]}}
    names = [cell.method for cell in expand(values | {"grid": swept}, "s").cells]
    assert {"sgd optimizer.lr=0.1", "sgd optimizer.lr=0.2", "sgd model.probe.lr=0.1"} <= {*names}
    again = values | {"methods": {"sgd": {}, "sgd lr=0.1": {}}, "grid": {"sgd": {"lr": [0.1]}}}
    with pytest.raises(ClbenchError, match=r"two rows 'sgd lr=0\.1'"):
        expand(again, "s")
