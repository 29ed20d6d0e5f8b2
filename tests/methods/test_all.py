"""Every method: trains, resumes, is neutral where it should be, and goes with every other one."""

import copy
import itertools
import math

import clips
import pytest
import torch
from clips import made
from helpers import FITTING, VIT, comparable, interrupt_after
from safetensors.torch import load_file

import clbench
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.base import overriding
from clbench.methods.together import IN_TRAINING
from clbench.recipe.recipe import parse
from clbench.testing import check_method

SMALL = {
    "stream": {
        "name": "split_digits",
        "classes": [[4, 5], [6, 7]],
        "train_per_class": 40,
        "test_per_class": 10,
    },
    "optimizer": {"name": "adamw", "lr": 0.02},
    "steps": 8,
    "batch_size": 16,
}
#: Settings other than the defaults, where a short run needs them.
SETTINGS = {
    "replay": {"fraction": 0.25},
    "sfa": {"p": 0.5},
    "l1": {"strength": 1e-4},
    "ranpac": {"features": 64},
    "der_pp": {"size": 20},
    "der": {"size": 20},
    "er_ace": {"size": 20},
    "icarl": {"size": 20},
    **FITTING,
    "zscl": clips.settings(),
}
#: What a method cannot be without.
REQUIRED = clips.required()
#: The network of methods that do not work on any; the first one counts.
NETWORK = {
    "zscl": clips.model(),
    **dict.fromkeys(("l2p", "spu", "ease", "dualprompt", "coda_prompt"), VIT),
}
#: On top of the small network of the checks.
CHECKED = {
    **{name: {"backbone": "tiny_vit", "options": {}} for name in NETWORK},
    "zscl": clips.model(),
}
#: Settings that must equal plain fine-tuning bit for bit; None: the method has none.
NEUTRAL = {
    "sequential": {},
    "multitask": None,
    "linear_probe": None,
    "ema": {"decay": 0},
    "flow": {"temperature": math.inf},
    "head_refit": None,
    "sfa": {"beta": 0},
    "wise_ft": {"alpha": 1},
    "task_arithmetic": None,
    "ties": None,
    "l1": {"strength": 0},
    "l2": {"strength": 0},
    "ewc": {"strength": 0},
    "ewc_merge": {"strength": 0},
    "fisher_merge": {"weight": 0},
    "lwf": {"strength": 0},
    "replay": {"fraction": 0},
    "der_pp": {"alpha": 0, "beta": 0},
    "gem": {"samples": 0},
    "agem": {"samples": 0},
    "mofo": {"fraction": 1},
    "hft": {"fraction": 1},
    "lora": None,
    "l2p": None,
    "ncm": None,
    "slda": None,
    "ranpac": None,
    "knn": None,
    "fecam": None,
    "aper": None,
    "ease": None,
    "slow_trunk": {"factor": 1},
    "align_head": {"epochs": 0},
    "si": {"strength": 0},
    "mas": {"strength": 0},
    "rwalk": {"strength": 0},
    "ldifs": {"strength": 0},
    "der": {"alpha": 0},
    "er_ace": {"strength": 0},
    "magmax": None,
    "dare": {"drop": 0},
    "cofima": {"alpha": 1},
    "opcm": None,
    "freeze": {"first": 0},
    "bitfit": None,
    "ln_only": None,
    "l2_sp": {"alpha": 0, "beta": 0},
    "icarl": None,
    "lp_ft": {"epochs": 0},
    "inflora": None,
    "spu": None,
    "sd_lora": None,
    "gpm": {"threshold": 0},
    "dualprompt": None,
    "coda_prompt": None,
    "zscl": {"strength": 0, "interval": 0},
}
#: Settings beside a neutral one, which must not matter there.
BESIDE = {
    "flow": [
        {"losses": "out_of_fold"},
        {"losses": "out_of_fold", "per": "batch", "folds": 2},
        {"probe": {"epochs": 1}},
    ],
}
#: What lives on past tasks has none beside multitask training.
PASTLESS = [
    {"multitask", name}
    for name in (
        *("ewc", "ewc_merge", "fisher_merge", "lwf", "replay", "der_pp", "gem", "agem"),
        *("align_head", "si", "mas", "rwalk", "der", "er_ace", "cofima", "icarl", "sd_lora", "gpm"),
    )
]
#: What is shown would lack what the other does to weights.
OVERWRITTEN = [{"ema", name} for name in ("fisher_merge", "cofima", "lora", "inflora", "sd_lora")]
#: Their hooks are those of others as well: only some of their pairs are tried every time.
KIN = {
    *("slow_trunk", "align_head", "si", "mas", "rwalk", "ldifs", "der", "er_ace", "magmax", "dare"),
    "knn",
    *("cofima", "opcm", "ema", "spu", "freeze", "bitfit", "ln_only", "l2_sp", "lp_ft", "gpm"),
    *("icarl", "inflora", "sd_lora", "fecam", "aper", "ease", "dualprompt", "coda_prompt"),
    "zscl",
}
MEET = {"sfa", "replay", "lora"}
#: Hooks that act on disjoint things: here the order in the recipe must not matter.
UNORDERED = ["flow", "l1", "l2", "ewc", "replay", "mofo", "lwf", "der_pp"]


def neutral(name):
    """Settings with which it changes nothing; None: there are none."""
    settings = NEUTRAL[name]
    return None if settings is None else REQUIRED.get(name, {}) | settings


def clashes(one, other):
    ours, theirs = METHODS[one], METHODS[other]
    return (
        other in ours.clashes
        or one in theirs.clashes
        or (ours.rewinds and theirs.rewinds)
        or (ours.makes_head and theirs.makes_head)
        or bool(ours.alone or theirs.alone)
        or {one, other} in PASTLESS
        or {one, other} in OVERWRITTEN
        or idle(one, other)
        or idle(other, one)
    )


def idle(ours, theirs):
    """Whether one trains nothing where the other acts in training."""
    last, other = made(ours).last_trained, made(theirs)
    late = last is not None and last < max(other.first_task, 1 + other.needs.past_tasks)
    acts = other.probes or any(overriding([other], hook) for hook in IN_TRAINING)
    return late and acts


PAIRS = [pair for pair in itertools.combinations(METHODS, 2) if not clashes(*pair)]
REFUSED = [pair for pair in itertools.combinations(METHODS, 2) if clashes(*pair)]


@pytest.fixture
def small(recipe, no_pictures):
    return recipe | copy.deepcopy(SMALL)


def run(recipe, folder, methods):
    methods = {name: SETTINGS.get(name, {}) if methods[name] is None else methods[name]
               for name in methods}  # fmt: skip
    record = clbench.run(fitting(recipe, methods) | {"methods": methods}, folder)
    return record, load_file(folder / "model.safetensors")


def fitting(recipe, methods):
    """The recipe with a network that all of its methods work on."""
    return recipe | {
        "model": next((m for n, m in NETWORK.items() if n in methods), recipe["model"])
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_every_method_is_in_the_tables():
    assert NEUTRAL.keys() == METHODS.keys()


def test_methods_say_at_which_settings_they_change_nothing():
    said = {name: dict(method.neutral) for name, method in METHODS.items()}
    assert said == {name: settings or {} for name, settings in NEUTRAL.items()}


@pytest.mark.parametrize("name", METHODS)
def test_keeps_to_what_is_asked_of_methods(data_dir, name):
    check_method(
        METHODS[name],
        neutral=neutral(name),
        settings=SETTINGS.get(name),
        beside=(),  # see PAIRS
        acts=name not in ("sequential", "multitask"),
        recipe={"data_dir": str(data_dir), "model": CHECKED.get(name, {})},
    )


@pytest.mark.parametrize("name", METHODS)
def test_its_summary_says_what_it_did(small, tmp_path, name):
    record, _ = run(small, tmp_path / "run", {name: None})
    assert record.finished
    summary = record.summary()
    assert summary["inactive"] == []
    assert summary["footprint"]["data_oblivious"] == (not made(name).needs.past_data)


@pytest.mark.parametrize(
    ("name", "more"), [(name, more) for name, several in BESIDE.items() for more in several]
)
def test_other_settings_leave_a_neutral_one_neutral(small, tmp_path, name, more):
    _, plain = run(small, tmp_path / "plain", {})
    record, neutral = run(small, tmp_path / "neutral", {name: NEUTRAL[name] | more})
    assert same(plain, neutral)
    assert record.summary()["inactive"] == [name]
    assert record.summary()["ineffective"] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "batch_median"},
        {"temperature": "running_median", "per": "batch"},
        {"losses": "out_of_fold"},
    ],
    ids=str,
)
def test_settings_of_flow_resume_bit_for_bit(small, tmp_path, monkeypatch, fields):
    monkeypatch.setitem(SETTINGS, "flow", fields)
    resumes(small, tmp_path, monkeypatch, {"flow": None})


def resumes(recipe, tmp_path, monkeypatch, methods):
    whole, weights = run(recipe, tmp_path / "whole", methods)
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path / "cut", methods)
    methods = {name: SETTINGS.get(name, {}) for name in methods}
    recipe = fitting(recipe, methods) | {"methods": methods}
    cut = clbench.run(recipe, tmp_path / "cut", resume=True)
    assert same(weights, load_file(tmp_path / "cut" / "model.safetensors"))
    assert comparable(cut) == comparable(whole)
    return whole


@pytest.fixture
def shared(small):
    """Tasks of 4 or 5, and of 7 or 6, on a head of two rows: the second goes against the first."""
    small["stream"] |= {"labels": "shared", "classes": [[4, 5], [7, 6]]}
    return small


@pytest.mark.parametrize("name", [name for name in METHODS if name != "multitask"])
def test_tasks_that_share_labels_train_and_resume_bit_for_bit(shared, tmp_path, monkeypatch, name):
    whole = resumes(shared, tmp_path, monkeypatch, {name: None})
    assert whole.summary()["inactive"] == []
    assert all(e.task_incremental == e.class_incremental for e in whole.tasks)


@pytest.mark.parametrize("name", [name for name, neutral in NEUTRAL.items() if neutral])
def test_neutral_settings_are_neutral_where_tasks_share_labels(shared, tmp_path, name):
    _, plain = run(fitting(shared, [name]), tmp_path / "plain", {})
    _, still = run(shared, tmp_path / "neutral", {name: neutral(name)})
    assert same(plain, still)


def often(pair):
    """Whether a pair is tried every time."""
    return KIN.isdisjoint(pair) or not MEET.isdisjoint(pair)


def groups(pairs):
    """Methods of which all go together, few at a time, so that every pair is in one of them."""
    left, order = set(map(frozenset, pairs)), list(METHODS)
    together = set(map(frozenset, PAIRS))
    while left:
        group = set(min(left, key=lambda pair: sorted(map(order.index, pair))))
        while len(group) < 5:
            new = {
                name: sum({name, one} in left for one in group)
                for name in order
                if name not in group and all({name, one} in together for one in group)
            }
            best = max(new, key=new.__getitem__, default=None)
            if best is None or not new[best]:
                break
            group.add(best)
        left = {pair for pair in left if not pair <= group}
        yield tuple(sorted(group, key=order.index))


GROUPS = list(groups(filter(often, PAIRS)))


def trains(small, folder, names):
    methods = dict.fromkeys(names)
    if {"multitask", "sfa"} <= methods.keys():  # one stage has none before it
        methods["sfa"] = SETTINGS["sfa"] | {"start_at": 1}
    record, weights = run(small, folder, methods)
    assert record.finished
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize("group", GROUPS, ids="+".join)
def test_methods_that_go_together_train(small, tmp_path, group):
    trains(small, tmp_path / "run", group)


def test_every_usual_pair_is_in_a_group():
    missed = [p for p in PAIRS if often(p) and not any(set(p) <= set(g) for g in GROUPS)]
    assert not missed


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_pairs_train(small, tmp_path, pair):
    trains(small, tmp_path / "run", pair)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [p for p in PAIRS if "multitask" not in p], ids="+".join)
def test_pairs_resume_bit_for_bit(small, tmp_path, monkeypatch, pair):
    resumes(small, tmp_path, monkeypatch, dict.fromkeys(pair))


@pytest.mark.parametrize(
    "names",
    [
        # With more of them MoFO's last chosen entry turns on how sums are rounded.
        pytest.param([name for name in UNORDERED if name != "mofo"], id="all"),
        *(
            pytest.param(pair, id="+".join(pair), marks=() if "mofo" in pair else pytest.mark.slow)
            for pair in itertools.combinations(UNORDERED, 2)
        ),
    ],
)
def test_order_does_not_matter_where_contributions_commute(small, tmp_path, names):
    """The reverse has each pair the other way round."""
    _, one = run(small, tmp_path / "one", dict.fromkeys(names))
    _, other = run(small, tmp_path / "other", dict.fromkeys(reversed(names)))
    for name in one:  # sums in another order may round differently
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pair", REFUSED, ids="+".join)
def test_pairs_without_sense_are_refused_with_the_reason(recipe, pair):
    methods = {name: REQUIRED.get(name, {}) for name in pair}
    raw = recipe | copy.deepcopy(SMALL) | {"methods": methods}
    with pytest.raises(ClbenchError, match=f"methods: .*{pair[0]}") as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "methods",
    [
        {"flow": {}, "wise_ft": {}},
        {"flow": {}, "l2": {}},
        {"flow": {}, "lora": {}},
        {"flow": {}, "head_refit": {}, "wise_ft": {}},
        {"replay": {}, "mofo": {}},
        {"gem": {}, "mofo": {}},
        {"sfa": {}, "replay": {}},
        {"flow": {}, "l2": {}, "replay": {}, "mofo": {}, "sfa": {}},
        {"lwf": {}, "der_pp": {}, "sfa": {}},
        {"slow_trunk": {}, "align_head": {}},
        {"er_ace": {}, "ldifs": {}, "rwalk": {}, "align_head": {}},
        {"freeze": {}, "lora": {}, "l2_sp": {}},
    ],
    ids="+".join,
)
def test_combinations_of_the_papers(small, tmp_path, methods):
    record, _ = run(small, tmp_path / "run", dict.fromkeys(methods))
    assert record.summary()["inactive"] == []


@pytest.mark.parametrize(
    ("head", "methods"),
    [
        (head, methods)
        for head in ("ncm", "slda", "ranpac", "knn", "fecam", "aper")
        for methods in (
            ("l2", "der_pp", "sfa"),
            ("lwf", "gem", "mofo", "wise_ft"),
            ("lora", "replay"),
        )
        if not any(name in METHODS[head].clashes for name in methods)
    ],
)
def test_heads_of_statistics_on_a_network_that_is_trained(
    small, tmp_path, monkeypatch, head, methods
):
    monkeypatch.setitem(SETTINGS, head, SETTINGS.get(head, {}) | {"tuned": "always"})
    whole = resumes(small, tmp_path, monkeypatch, dict.fromkeys([*methods, head]))
    assert [event.steps for event in whole.tasks] == [8, 8]


def test_a_method_says_which_optimisers_it_works_with(recipe):
    with pytest.raises(ClbenchError, match=r"mofo is a rule for the updates of adamw or lion"):
        parse(recipe | {"methods": {"mofo": {}}})


def test_an_optimiser_of_its_own_need_not_be_adam(recipe, monkeypatch):
    class Own(METHODS["sequential"]):
        def optimizer(self, parameters, settings):
            return None

    monkeypatch.setitem(METHODS, "own", Own)
    parsed = parse(recipe | {"optimizer": {"name": "sgd"}, "methods": {"own": {}}})
    assert list(parsed.methods) == ["own"]


def test_past_data_is_out_of_reach_of_methods_that_do_not_declare_it(small, tmp_path, monkeypatch):
    """A method that quietly keeps a task's data is caught when it uses it."""
    from clbench.methods.sequential import Sequential

    kept = []

    def start(self, context):
        for split in kept:
            split.images.take(split.index[:1])
        kept.append(context.task.train)

    monkeypatch.setattr(Sequential, "start", start)
    with pytest.raises(ClbenchError, match=r"declares `needs\.past_data`"):
        run(small, tmp_path / "run", {"sequential": None})
