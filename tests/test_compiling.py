"""``model.compile: auto``: what a trial chooses, what is told of it, and that a run keeps to it."""

import copy

import pytest
import torch
from helpers import comparable, interrupt_after
from safetensors.torch import load_file

import clbench
from clbench.machine import has_bfloat16
from clbench.recipe.recipe import merge, parse
from clbench.record.record import Record
from clbench.runner import compiling
from clbench.runner.compiling import COMPILED, HALF, LAST, PLAIN, try_steps

SMALL = {
    "stream": {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 20},
    "model": {"weights": "none", "compile": "auto"},
    "steps": 2,
}
CPU = torch.device("cpu")


@pytest.fixture
def go(recipe, tmp_path, no_pictures):
    """Run a small recipe: its record and its weights."""
    count = iter(range(99))

    def run(resume=None, **fields):
        values = merge(merge(copy.deepcopy(recipe), SMALL), fields)
        folder = resume or tmp_path / str(next(count))
        record = clbench.run(values, folder, resume=bool(resume))
        return record, load_file(folder / "model.safetensors")

    return run


@pytest.fixture
def timed(monkeypatch):
    """Trials take no time, and say what the test wants of each way."""
    seconds, tried = {PLAIN: 1.0, LAST: 1.0, COMPILED: 1.0, HALF: 1.0, "first": 11.0}, []

    def steps(recipe, device):
        way = COMPILED if recipe.model.compile else LAST if recipe.model.channels_last else PLAIN
        if recipe.trainer.get("precision") == HALF:
            way = HALF
        tried.append(way)
        return seconds["first"] if way == COMPILED else 2.0, seconds[way]

    monkeypatch.setattr(compiling, "seconds_of_steps", steps)
    return seconds, tried


def chosen(recipe, processes=1, **fields):
    """What a trial chooses for two tasks of so many steps."""
    whole = parse(merge(merge(copy.deepcopy(recipe), SMALL), {"steps": 100} | fields))
    stages = whole.build_stream().tasks
    return try_steps(whole, stages, 1, CPU, processes)


def test_a_way_is_chosen_that_pays(recipe, timed, monkeypatch):
    monkeypatch.setattr(compiling, "has_bfloat16", lambda device: True)
    seconds, tried = timed
    found = chosen(recipe)
    assert (found.compile, found.channels_last) == (None, None)
    assert tried == [PLAIN, LAST, COMPILED, HALF]
    assert found.step_seconds == dict.fromkeys(tried, 1.0)
    assert found.compile_seconds == 10
    seconds |= {LAST: 0.8}
    found = chosen(recipe)
    assert (found.compile, found.channels_last) == (None, True)
    seconds |= {COMPILED: 0.7}
    found = chosen(recipe)
    assert (found.compile, found.channels_last) == ("inductor", True)
    assert found.why.startswith("compiled and channels last: 1 s a step as it is, 0.8 s channels")
    assert chosen(recipe, model={"channels_last": False}).channels_last is None
    seconds |= {"first": 41.0}  # 200 steps save 20 s
    assert chosen(recipe).compile is None
    assert "bf16" not in chosen(recipe).why
    seconds |= {HALF: 0.5}
    assert chosen(recipe).why.endswith("; trainer.precision: bf16-mixed would take 0.5 s")


def test_what_is_not_tried_says_why(recipe, timed):
    _, tried = timed
    assert chosen(recipe, model={"compile": "inductor"}) is None
    assert chosen(recipe, model={"compile": None}) is None
    assert "training takes about 4 s" in chosen(recipe, steps=2).why
    assert tried.pop() == PLAIN
    assert "several processes" in chosen(recipe, processes=2).why
    assert not tried


def refusing(monkeypatch, *ways):
    """Let some ways fail."""
    timed_steps = compiling.seconds_of_steps

    def fails(recipe, device):
        way = COMPILED if recipe.model.compile else LAST if recipe.model.channels_last else PLAIN
        way = HALF if recipe.trainer.get("precision") == HALF else way
        if way in ways:
            raise RuntimeError(f"{way} is not possible here\nat all")
        return timed_steps(recipe, device)

    monkeypatch.setattr(compiling, "seconds_of_steps", fails)


def test_a_network_that_does_not_compile_is_left_as_it_is(recipe, timed, monkeypatch):
    refusing(monkeypatch, COMPILED)
    found = chosen(recipe)
    assert found.compile is None
    assert "torch.compile fails (compiled is not possible here)" in found.why


def test_what_fails_in_a_trial_stops_no_run(recipe, timed, monkeypatch):
    """A network may need its memory format, or single precision, which nobody asked to change."""
    monkeypatch.setattr(compiling, "has_bfloat16", lambda device: True)
    refusing(monkeypatch, LAST, HALF)
    timed[0][COMPILED] = 0.5
    found = chosen(recipe)
    assert (found.compile, found.channels_last) == ("inductor", None)
    assert found.why.endswith("channels last fails (channels last is not possible here)")
    assert found.step_seconds == {PLAIN: 1.0, COMPILED: 0.5}
    refusing(monkeypatch, PLAIN)
    found = chosen(recipe)
    assert (found.compile, found.step_seconds) == (None, {})
    assert found.why == "as it is: the trial fails (as it is is not possible here)"


def test_a_run_is_the_same_but_for_rounding_and_keeps_to_its_choice(
    go, tmp_path, monkeypatch, capsys
):
    """The trial is a real one; everything is taken to pay."""
    _, plain = go(model={"compile": None})
    monkeypatch.setattr(compiling, "LEAST", 0)
    monkeypatch.setattr(compiling, "STEPS", 1)
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    monkeypatch.setattr(compiling, "has_bfloat16", lambda device: False)
    real = compiling.seconds_of_steps

    def steps(recipe, device):
        if recipe.model.compile:
            real(recipe, device)
        way = COMPILED if recipe.model.compile else LAST if recipe.model.channels_last else PLAIN
        return 0.0, {PLAIN: 1.0, LAST: 0.9, COMPILED: 0.5}[way]

    monkeypatch.setattr(compiling, "seconds_of_steps", steps)
    record, weights = go()
    trial = record.run.step_trial
    assert "model.compile: auto: " in capsys.readouterr().out
    assert trial.channels_last
    assert trial.compile == "aot_eager"
    assert trial.step_seconds == {PLAIN: 1, LAST: 0.9, COMPILED: 0.5}
    assert all(torch.allclose(plain[name], weights[name], atol=1e-5) for name in plain)
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            go()
    monkeypatch.setattr(compiling, "seconds_of_steps", None)  # there is no second trial
    again, resumed = go(resume=tmp_path / "2")
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert comparable(again) == comparable(record)
    kept = Record.load(tmp_path / "2").run.step_trial
    assert (kept.compile, kept.channels_last) == (trial.compile, trial.channels_last)


def test_bfloat16_is_asked_of_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert not has_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert has_bfloat16(CPU)
