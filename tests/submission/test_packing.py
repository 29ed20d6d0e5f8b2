"""What goes into a submission, what is taken out, and which runs are refused."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from submitted import PLUGIN, RECIPE, members_of

from clbench.cli.commands import command
from clbench.errors import ClbenchError
from clbench.recipe.redacting import Redactor, own_names
from clbench.record.same_run import settings
from clbench.report.gather import read_run
from clbench.runner.runner import run
from clbench.submission import opened, pack, verify


@pytest.fixture
def runs(honest, tmp_path):
    """A copy of the runs, to be changed."""
    shutil.copytree(honest.parent / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def repack(runs, name="again", **more):
    return pack([runs], runs.parent / f"{name}.clbench.zip", "Honest", ["A. Author"], **more)


def change(folder, key, value):
    """Change the recipe of a run, in its record and beside it."""
    lines = (folder / "record.jsonl").read_text().splitlines(keepends=True)
    first = json.loads(lines[0])
    recipe = yaml.safe_load(first["recipe"])
    *keys, last = key.split(".")
    inner = recipe
    for one in keys:
        inner = inner[one]
    inner[last] = value
    first["recipe"] = yaml.safe_dump(recipe, sort_keys=False)
    (folder / "config.yaml").write_text(first["recipe"])
    (folder / "record.jsonl").write_text("".join([json.dumps(first) + "\n", *lines[1:]]))


def test_the_same_runs_give_the_same_bytes(honest, runs):
    for number, folder in enumerate(sorted(runs.iterdir(), reverse=True)):
        folder.rename(runs / f"{number}")
    places = sorted(runs.iterdir(), reverse=True)
    made = pack([*places, runs], runs.parent / "b.clbench.zip", "Honest", ["A. Author"])
    assert made.path.read_bytes() == honest.read_bytes()
    assert made.sha256 == opened(honest).sha256


def test_what_is_in_it(honest):
    names = set(members_of(honest))
    manifests = {name for name in names if name.startswith("manifests/")}
    assert len(manifests) == 1  # all runs have the same split
    files = ("record.jsonl", "config.yaml", "environment.json", "summary.json")
    own = {f"runs/{number}/{name}" for number in range(4) for name in files}
    assert names == own | manifests | {"submission.json"}


def test_nothing_of_the_machine_is_in_it(runs, monkeypatch, capsys):
    monkeypatch.setattr("clbench.submission.packing.own_names", lambda: {"jdoe", "bigbox"})
    folder = runs / "sfa-1"
    change(folder, "data_dir", "/home/jdoe/data")
    change(folder, "loggers", {"wandb": {"project": "secret", "entity": "jdoe"}})
    change(folder, "name", "jdoe's run")
    change(folder, "retention.train", "/mnt/bigbox/birds")
    about = json.loads((folder / "environment.json").read_text())
    about["command"] = ["/home/jdoe/train.py", "--token", "hunter2"]
    about["note"] = "ran on bigbox, see /home/jdoe/notes/today.txt"
    (folder / "environment.json").write_text(json.dumps(about))
    made = repack(runs)
    whole = b"".join(members_of(made.path).values())
    for word in (b"jdoe", b"bigbox", b"hunter2", b"/home", b"/mnt", b"secret"):
        assert word not in whole
    assert b"birds" in whole
    assert made.about.taken_out == [
        "2 paths of a machine: of each its last part is left",
        "loggers and their settings, once",
        "names of a user or a host, 2 times",
        "the command line, 4 times",
        "where data lies (data_dir), once",
    ]


def test_a_redacted_record_is_of_the_same_run(runs):
    folder = runs / "sfa-1"
    change(folder, "data_dir", "/home/somebody/data")
    change(folder, "retention.train", "/mnt/a/birds")
    before, _ = read_run(folder)
    made = repack(runs)
    after = next(r for r in made.runs if r.methods == ["sfa"] and r.seed == 1)
    but = ("free", "place")
    then, now = settings(before.recipe, but), settings(after.recipe, but)
    assert {k for k in then if then[k] != now[k]} == {"retention.train"}
    assert now["retention.train"] == "birds"
    assert before.record.summary() == after.record.summary()


def test_lines_of_which_nothing_is_taken_out_stay_as_they_are(honest):
    records = sorted((honest.parent / "runs").glob("*/record.jsonl"))
    kept = {members_of(honest)[f"runs/{number}/record.jsonl"] for number in range(4)}
    assert kept == {path.read_bytes() for path in records}


def test_paths_that_end_alike_stay_two():
    redactor = Redactor([])
    made = redactor.values(["/a/train", "/b/train", "/a/train/", "../up/train", "data/train"])
    assert made == ["train", "train~2", "train", "train~3", "data/train"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("T-shirt/top", "T-shirt/top"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("vit_base_patch16_224.augreg2_in21k", "vit_base_patch16_224.augreg2_in21k"),
        ("data/cifar10/train", "data/cifar10/train"),
        ("~/pics", "pics"),
        ("~", "folder"),
        ("..", "folder"),
        ("a/../../b", "a/../../b"),
        (r"C:\Users\me\pics", "pics"),
        ("C:/Users/me/pics", "pics"),
        (r"\\host\share\pics", "pics"),
        ("file:///home/me/pics", "pics"),
        ("/data/train-{0000..0146}.tar", "train-{0000..0146}.tar"),
        ("see /home/me/notes.txt, please", "see notes.txt, please"),
        ("'/home/me/my file': no such", "'my file': no such"),
    ],
)
def test_what_is_a_path_of_a_machine(text, left):
    assert Redactor([]).text(text) == left


def test_names_that_say_nothing_are_no_names(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "localhost")
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    monkeypatch.setattr("pathlib.Path.home", lambda: __import__("pathlib").Path("/root"))
    assert own_names() == set()
    monkeypatch.setattr("platform.node", lambda: "box7.lab.example.org")
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe")
    assert own_names() == {"box7", "box7.lab.example.org", "jdoe"}


def test_unfinished_runs_are_refused_or_left_out(runs, capsys):
    path = runs / "sfa-0" / "record.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(ClbenchError, match="sfa-0 is not finished: go on with --resume"):
        repack(runs)
    assert len(repack(runs, skip_unfinished=True).runs) == 3
    assert "Left out, as not finished: 1 run." in capsys.readouterr().out


def test_runs_that_cannot_be_submitted_are_refused(runs):
    shutil.copytree(runs / "sfa-0", runs / "sfa-0-again")
    with pytest.raises(ClbenchError, match="repeats the recipe and the seed of"):
        repack(runs)
    shutil.rmtree(runs / "sfa-0-again")
    path = runs / "sfa-0" / "record.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"test_on": "test"', b'"test_on": "validation"', 1))
    with pytest.raises(ClbenchError, match="is a try of tuning"):
        repack(runs)
    path.write_bytes(whole.replace(b'"event": "pretrained"', b'"event": "wrong"', 1))
    with pytest.raises(ClbenchError, match="sfa-0 cannot be read"):
        repack(runs)
    path.write_bytes(whole)
    (runs / "sfa-0" / "environment.json").write_text("{")
    with pytest.raises(ClbenchError, match=r"sfa-0 cannot be packed: environment\.json is no JSON"):
        repack(runs)
    assert not list(runs.parent.glob("*.zip"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"title": "a\nb"}, "--title"),
        ({"title": ""}, "--title"),
        ({"authors": []}, "--authors"),
        ({"link": "javascript:x"}, "--link 'javascript:x': is no web address"),
        ({"license": "x" * 1000}, "--license"),
        ({"output": "x.zip"}, "NAME.clbench.zip"),
    ],
)
def test_what_may_not_be_said_is_refused(runs, given, says):
    usual = {"output": runs.parent / "a.clbench.zip", "title": "T", "authors": ["A"]}
    with pytest.raises(ClbenchError, match=says):
        pack([runs], **(usual | given))


def test_the_environment_of_a_study_lies_above_its_records(runs, monkeypatch):
    about = None
    for folder in runs.iterdir():
        about = json.loads((folder / "environment.json").read_text())
        (folder / "environment.json").unlink()
    (runs.parent / "environment.json").write_text(json.dumps(about))
    made = repack(runs)
    for one in made.runs:
        assert one.environment["packages"] == about["packages"]
        assert one.environment["of"] == "the study"
        assert not {"weights", "split_manifest_sha256", "command"} & one.environment.keys()
    assert {row.verdict for row in verify(made)} == {"self-reported"}
    for places in ([runs.parent], sorted(runs.iterdir()), [Path("."), "../sfa-0", "../..//runs"]):
        monkeypatch.chdir(runs / "sfa-1")  # the same runs by other names
        again = pack(places, runs.parent / "b.clbench.zip", "Honest", ["A. Author"])
        assert again.sha256 == made.sha256
    (runs / "sfa-1" / "sub").mkdir()  # what lies below a run has not that run's environment
    (runs / "sfa-0").rename(runs / "sfa-1" / "sub" / "sfa-0")
    (runs / "sfa-1" / "environment.json").write_text(json.dumps(about | {"of": "sfa-1"}))
    told = {one.seed: one.environment for one in repack(runs / "sfa-1").runs}
    assert (told[0], told[1]["of"]) == ({}, "sfa-1")


def test_plugins_are_packed_if_asked_for_and_compared_with_what_was_run(
    tmp_path, monkeypatch, capsys, no_pictures
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_idle.py").write_text(PLUGIN)
    plugin = {"plugins": [str(tmp_path / "my_idle.py")], "methods": {"idle": {}}}
    run(RECIPE | plugin, tmp_path / "runs" / "a")
    words = ["pack", "runs", "--title", "T", "--authors", "A", "--output"]
    assert command([*words, "without.clbench.zip"]) == 0
    assert "The code of my_idle.py is not in it" in capsys.readouterr().out
    assert command([*words, "with.clbench.zip", "--with_plugins"]) == 0
    found = opened("with.clbench.zip")
    assert found.plugins == {"my_idle.py": PLUGIN.encode()}
    assert found.runs[0].recipe["plugins"] == ["my_idle.py"]
    (tmp_path / "my_idle.py").write_text(PLUGIN + "# changed\n")
    with pytest.raises(ClbenchError, match=r"my_idle\.py has changed since the runs"):
        command([*words, "other.clbench.zip", "--with_plugins"])


def test_names_go_from_every_text_and_what_code_goes_by_stays(runs, monkeypatch):
    monkeypatch.setattr("clbench.submission.packing.own_names", lambda: {"jdoe"})
    folder = runs / "sfa-1"
    change(folder, "retention.train", "/mnt/jane doe/My Birds/JDoe")
    lines = (folder / "record.jsonl").read_text().splitlines(keepends=True)
    first = json.loads(lines[0])
    first["tasks"][0] = "cats of jdoe"
    first["class_names"][0] = "jdoe_cat"
    first["warnings"] = ["cannot read /home/jane doe/My Birds/a.png of Jdoe"]
    (folder / "record.jsonl").write_text("".join([json.dumps(first) + "\n", *lines[1:]]))
    summary = json.loads((folder / "summary.json").read_text())
    summary["tasks"][0] = "cats of jdoe"
    (folder / "summary.json").write_text(json.dumps(summary))
    members = members_of(repack(runs).path)
    whole = b"".join(members.values())
    assert not [w for w in (b"jdoe", b"jane", b"My Birds") if w in whole.lower() or w in whole]
    assert b"cannot read a.png of name" in whole
    assert b"name_cat" in whole


def test_what_a_run_is_repeated_by_keeps_its_name():
    redactor = Redactor(["jdoe"])
    recipe = (
        "methods: {jdoe_leash: {owner: jdoe}}\nmodel: {weights: 'hf-hub:jdoe/digits'}\n"
        "plugins_sha256: {jdoe_leash.py: '0'}\n"
    )
    assert redactor.recipe(recipe).count("jdoe") == 3
    assert "owner: name" in redactor.recipe(recipe)
    assert redactor.values({"jdoe_leash": "jdoe"}) == {"jdoe_leash": "name"}


def test_a_name_that_is_a_word_of_recipes_is_none(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "tiny")
    monkeypatch.setattr("getpass.getuser", lambda: "pretrain")
    monkeypatch.setattr("pathlib.Path.home", lambda: __import__("pathlib").Path("/home/Max"))
    assert own_names() == set()


def test_what_is_no_submission_takes_no_other_ones_place(runs, monkeypatch):
    made = repack(runs)
    before = made.path.read_bytes()
    monkeypatch.setattr("clbench.submission.submission.Budget.values", 10)
    monkeypatch.setattr("clbench.submission.submission.Budget.__init__.__defaults__", (10, 10))
    with pytest.raises(ClbenchError, match="pack its runs into several"):
        repack(runs)
    assert made.path.read_bytes() == before
