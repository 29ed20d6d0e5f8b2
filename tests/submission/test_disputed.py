"""Submissions whose numbers do not hold: each is disputed, with the check that finds it."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest
import yaml
from submitted import members_of, of_run, quiet, sealed

from clbench.cli.commands import command
from clbench.methods import METHODS
from clbench.submission import opened, pack, verify
from clbench.submission.checks import CHECKS
from clbench.submission.checks.recipes import OLDEST


def put(*path):
    """Set a value deep in the events: the last of the path."""
    *keys, last, value = path

    def change(events):
        inner = events
        for key in keys:
            inner = inner[key]
        inner[last] = value(inner[last]) if callable(value) else value

    return change


def events(*changes, recomputed=True):
    """Changes of the events of the first run."""

    def make(members):
        def all_of_them(found):
            for change in changes:
                change(found)

        return of_run(members, 0, all_of_them, recomputed)

    return make


def in_recipe(change, config=True):
    """A change of the recipe in the first record, and beside it."""

    def make(members):
        def changed(found):
            values = yaml.safe_load(found[0]["recipe"])
            change(values)
            found[0]["recipe"] = yaml.safe_dump(values, sort_keys=False)

        made = of_run(members, 0, changed)
        if config:
            recipe = json.loads(made["runs/0/record.jsonl"].splitlines()[0])["recipe"]
            made["runs/0/config.yaml"] = recipe.encode()
        return made

    return make


def in_file(name, change):
    def make(members):
        values = json.loads(members[name])
        change(values)
        return members | {name: json.dumps(values).encode()}

    return make


def other_image(events):
    """One more image right after the last task, task-incremental."""
    task, images = events[3], events[0]["test_images"]
    task["task_incremental"][0] = (round(task["task_incremental"][0] * images[0]) + 1) / images[0]


def seed_copied(members):
    """The first run once more, in the place of its other seed."""
    lines = members["runs/0/record.jsonl"].replace(b'"seed": 0', b'"seed": 1')
    lines = lines.replace(b"seed: 0", b"seed: 1").replace(b"-seed0", b"-seed1")
    made = members | {"runs/1/record.jsonl": lines}
    for name in ("config.yaml", "environment.json"):
        made[f"runs/1/{name}"] = members[f"runs/0/{name}"].replace(b"seed: 0", b"seed: 1")
    made["runs/1/summary.json"] = (
        members["runs/0/summary.json"]
        .replace(b'"seed": 0', b'"seed": 1')
        .replace(b"-seed0", b"-seed1")
    )
    return made


def seed_twice(members):
    """Another run of the same recipe and seed."""
    made = dict(members)
    for name, content in members.items():
        if name.startswith("runs/1/"):
            made[name] = content.replace(b'"seed": 1', b'"seed": 0').replace(b"seed: 1", b"seed: 0")
    return made


def forged_manifest(members):
    """A manifest of other tasks, by a hash of its own, which the record of the run has."""
    name = next(name for name in members if name.startswith("manifests/"))
    values = json.loads(members[name])
    values["tasks"][0]["name"] = "another"
    text = json.dumps(values, sort_keys=True)
    new = hashlib.sha256(text.encode()).hexdigest()
    made = {k: v for k, v in members.items() if k != name} | {
        f"manifests/{new}.json": text.encode()
    }
    old = name.removeprefix("manifests/").removesuffix(".json")
    return {
        k: v.replace(old.encode(), new.encode()) if k.startswith("runs/") else v
        for k, v in made.items()
    }


def weightless(events):
    events[0]["weights"]["sha256"] = None


CONFIG = "runs/0/config.yaml"
#: By what is forged: how, the check that finds it, and what it says.
DISPUTED = {
    "a score": (
        in_file(
            "runs/0/summary.json",
            lambda s: s["task_incremental"].update(overall_performance=0.99),
        ),
        "scores",
        "overall_performance = 0.99",
    ),
    "a cell of the matrix alone": (events(other_image, recomputed=False), "scores", "summary.json"),
    "an accuracy of no image": (
        events(put(2, "task_incremental", [0.61803]), put(2, "class_incremental", [0.61803])),
        "whole images",
        "no whole number",
    ),
    "a point of no image": (
        events(put(2, "curve", 0, "class_incremental", [0.0001])),
        "whole images",
        "no whole number",
    ),
    "validation of no image": (
        events(put(2, "validation", "class_incremental", [0.0001])),
        "whole images held out",
        "validation",
    ),
    "class- above task-incremental": (
        events(put(3, "task_incremental", 0, 0.0)),
        "scenarios",
        "above",
    ),
    "steps that run back": (
        events(put(2, "curve", lambda c: c[::-1])),
        "order of steps",
        "out of its steps",
    ),
    "points between": (events(put(2, "curve", 0, "step", 1)), "order of steps", "every 2th"),
    "steps that do not add up": (events(put(3, "last_step", 9)), "order of steps", "counted"),
    "more steps": (
        events(put(2, "steps", 5), put(2, "last_step", 5), put(3, "last_step", 9)),
        "steps",
        "5 steps, the recipe makes 4",
    ),
    "fewer samples": (events(put(2, "samples", 100)), "steps", "100 samples"),
    "a budget in the recipe": (in_recipe(lambda r: r.update(steps=3)), "steps", "recipe makes 3"),
    "fewer test images": (
        events(put(0, "test_images", 0, 9), weightless),
        "sizes",
        "test images",
    ),
    "a class less": (events(put(0, "class_names", lambda c: c[:-1])), "sizes", "classes"),
    "a smaller network": (events(put(0, "parameters", 1000)), "parameters", "the network"),
    "parts longer than the whole": (events(put(2, "seconds", 1e-4)), "times", "parts"),
    "a machine beyond all": (events(put(2, "flops", 1e25)), "times", "operations"),
    "top-1 above top-5": (
        events(
            put(1, "retention", {"top1": 0.5, "top5": 0.4}),
            put(2, "retention", {"top1": 0.5, "top5": 0.4}),
            put(3, "retention", {"top1": 0.5, "top5": 0.4}),
        ),
        "retention",
        "above top-5",
    ),
    "a seed copied": (seed_copied, "copies", "same seconds"),
    "a seed twice": (seed_twice, "seeds", "repeat a recipe"),
    "one draw of weights": (seed_copied, "weights of all seeds", "one draw"),
    "another stream": (events(put(0, "stream", "split_mnist")), "record of the recipe", "stream"),
    "another seed": (events(put(0, "seed", 7)), "record of the recipe", "seed"),
    "another backbone": (
        events(put(0, "backbone", "tiny_vit")),
        "record of the recipe",
        "tiny_vit",
    ),
    "another method": (
        events(
            put(0, "methods", {"mofo": {}}),
            put(2, "methods", {"mofo": {}}),
            put(3, "methods", {"mofo": {}}),
        ),
        "record of the recipe",
        "methods",
    ),
    "other logits": (events(put(0, "train_logits", "all")), "record of the recipe", "train_logits"),
    "a misspelt recipe": (in_recipe(lambda r: r.update(stepps=3)), "recipe", "stepps"),
    "a value out of range": (in_recipe(lambda r: r.update(batch_size=-1)), "recipe", "batch_size"),
    "another config.yaml": (
        lambda m: (
            m | {"runs/0/config.yaml": m["runs/0/config.yaml"].replace(b"steps: 4", b"steps: 5")}
        ),
        "config.yaml",
        "differ in steps",
    ),
    "an older stream": (events(put(0, "stream_version", 7)), "stream's version", "version 7"),
    "a version that is none": (
        in_file("runs/0/environment.json", lambda e: e["packages"].update(torch="two")),
        "environment",
        "'two' is no version",
    ),
    "an old release": (
        in_file("runs/0/environment.json", lambda e: e["packages"].update(torch="1.0")),
        "environment",
        "older than 2.4",
    ),
    "another run's environment": (
        in_file("runs/0/environment.json", lambda e: e["weights"].update(sha256="0" * 64)),
        "environment",
        "of another run",
    ),
    "other images": (
        events(put(0, "split_manifest_sha256", "0" * 64)),
        "split of the data",
        "its split is 000000000000",
    ),
    "other images in one seed": (
        events(put(0, "split_manifest_sha256", "0" * 64)),
        "splits of all seeds",
        "different splits",
    ),
    "other tasks in the manifest": (forged_manifest, "split manifest", "other tasks"),
    "a manifest of that name": (
        lambda m: {
            k: v.replace(b"every", b"each").replace(b'"validation": 0.1', b'"validation": 0.2')
            if k.startswith("manifests/")
            else v
            for k, v in m.items()
        },
        "split manifest",
        "SHA-256",
    ),
    "other names of classes": (
        events(put(0, "class_names", 0, "x")),
        "split of the data",
        "other names",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def warm(honest):
    """What is imported once is, so that nothing is compiled while a forged file is read."""
    list(METHODS.values())
    assert {row.verdict for row in verify(opened(honest))} == {"self-reported"}


@pytest.mark.parametrize("kind", DISPUTED)
def test_what_is_forged_is_disputed(kind, members, tmp_path):
    make, check, says = DISPUTED[kind]
    path = tmp_path / "forged.clbench.zip"
    path.write_bytes(sealed(dict(sorted(make(members).items()))))
    began = time.perf_counter()
    with quiet():
        rows = verify(opened(path))
    assert time.perf_counter() - began < 2
    bad = [row for row in rows if row.verdict == "disputed"]
    told = [reason for row in bad for reason in row.reasons]
    assert any(one.startswith(f"{check}: ") and says in one for one in told), told
    assert all("\n" not in one and len(one) <= 400 for one in told)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_rows_of_others_are_not_touched(members, tmp_path):
    path = tmp_path / "one.clbench.zip"
    path.write_bytes(sealed(DISPUTED["a score"][0](members)))
    assert {row.method: row.verdict for row in verify(opened(path))} == {
        "sequential": "disputed",
        "sfa": "self-reported",
    }


def test_every_check_is_made_of_an_honest_file_or_says_why_not(honest):
    for row in verify(opened(honest)):
        assert {*row.made, *row.not_made} == CHECKS.keys()
        assert row.not_made.keys() == {"weights of the name"}
        assert not row.reasons


def test_every_check_says_what_it_catches():
    for check in CHECKS.values():
        assert (check.__doc__ or "").strip()
    assert {row[1] for row in DISPUTED.values()} >= CHECKS.keys() - {
        "plugins",
        "weights of the name",
    }


def test_weights_of_one_name_are_compared_between_submissions(members, tmp_path):
    def tagged(sha256):
        def change(events):
            events[0]["weights"] = {"source": "resnet18.a1_in1k", "sha256": sha256}

        made = members
        for number in range(4):
            made = of_run(made, number, change)
        return made

    files = []
    for name in "ab":
        path = tmp_path / f"{name}.clbench.zip"
        path.write_bytes(sealed(tagged(name * 64)))
        files.append(opened(path))
    told = [reason for row in verify(files[0], others=files) for reason in row.reasons]
    assert any("other weights than those in b.clbench.zip" in one for one in told)


def test_the_command_prints_a_table_and_the_reasons(honest, members, tmp_path, capsys):
    assert command(["verify", str(honest)]) == 0
    shown = capsys.readouterr().out
    assert "2 self-reported" in shown
    assert "weights of the name (2 rows): weights: none" in shown
    path = tmp_path / "forged.clbench.zip"
    path.write_bytes(sealed(DISPUTED["a score"][0](members)))
    assert command(["verify", str(path)]) == 1
    assert "scores: seed 0: summary.json has task_incremental" in capsys.readouterr().out


def test_runs_without_what_lies_beside_them_are_self_reported(honest, tmp_path):
    """As records that are kept for reports: their recipes are in them."""
    for folder in (honest.parent / "runs").iterdir():
        (tmp_path / "kept" / folder.name).mkdir(parents=True)
        record = (folder / "record.jsonl").read_bytes()
        (tmp_path / "kept" / folder.name / "record.jsonl").write_bytes(record)
    made = pack([tmp_path / "kept"], tmp_path / "kept.clbench.zip", "Kept", ["A"])
    assert "runs/0/config.yaml" not in members_of(made.path)
    rows = verify(made)
    assert [row.verdict for row in rows] == ["self-reported"] * 2
    assert rows[0].not_made["scores"] == "there is no summary.json"
    assert rows[0].not_made["environment"] == "there is no environment.json"


def test_the_oldest_releases_are_those_that_the_package_asks_for():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    asked = dict(re.findall(r'^    "([a-z-]+)>=([\d.]+)', text, re.MULTILINE))
    asked["python"] = re.search(r'requires-python = ">=([\d.]+)"', text)[1]
    assert {name: asked[name] for name in OLDEST} == OLDEST
