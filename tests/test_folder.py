"""How a run comes by its folder: locked before it is written, and one recipe's alone."""

import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from helpers import RECIPE

import clbench
from clbench.cli.arguments import read_arguments, values
from clbench.errors import ClbenchError
from clbench.files import lock
from clbench.recipe.recipe import parse
from clbench.runner import folder as run_folder
from clbench.runner.folder import plain, recipe_of, take

#: Whoever commits.
OWN = ("-c", "user.name=x", "-c", "user.email=x@example.org")


def of(**changes):
    return parse(RECIPE | {"name": "run"} | changes)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Takes a folder as a run does; the folder stays locked until the test is over."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as held:

        def start(recipe, output=None, resume=False, leave=True):
            with ExitStack() as own:
                taken = take(recipe, output, resume, own)
                if not leave:
                    held.push(own.pop_all())
            return taken

        yield start


def test_the_folder_is_locked_before_anything_is_written(start, monkeypatch):
    seen = []
    real = run_folder.write_atomic

    def write(path, content):
        with pytest.raises(ClbenchError, match="at work"), lock.alone(path.parent):
            pass
        seen.append(path.name)
        real(path, content)

    monkeypatch.setattr(run_folder, "write_atomic", write)
    start(of())
    start(of(), Path("given"))
    assert seen == ["config.yaml", "config.yaml"]


def test_the_loser_of_a_race_writes_nothing(start):
    place, _ = start(of(seed=1), Path("given"), leave=False)
    before = (place / "config.yaml").read_bytes()
    with pytest.raises(ClbenchError, match="another process is at work in given"):
        start(of(seed=2), Path("given"))
    assert (place / "config.yaml").read_bytes() == before


def test_two_recipes_never_share_a_default_folder(start):
    first, _ = start(of(), leave=False)
    second, _ = start(of(batch_size=16), leave=False)
    third, _ = start(of(), leave=False)  # the first one is still at work
    assert [str(p) for p in (first, second, third)] == ["runs/run", "runs/run-2", "runs/run-3"]
    assert plain(recipe_of(second)) == plain(of(batch_size=16))


def test_a_killed_beginning_is_taken_up_by_the_same_recipe_alone(start):
    assert start(of())[0] == Path("runs/run")
    assert start(of())[0] == Path("runs/run")
    assert start(of(batch_size=16))[0] == Path("runs/run-2")
    (Path("runs/run") / "record.jsonl").touch()
    assert start(of())[0] == Path("runs/run-3")


def test_starts_at_once(start):
    """Of many processes that start at once, each gets a folder with its own recipe."""
    found, barrier = {}, threading.Barrier(8)

    def one(number):
        barrier.wait()
        with ExitStack() as held:
            recipe = of(seed=number % 4)  # each recipe twice
            place, _ = take(recipe, None, False, held)
            stays = plain(recipe_of(place)) == plain(recipe)
            (place / "record.jsonl").touch()
            found[number] = (place, stays and plain(recipe_of(place)) == plain(recipe))
            barrier.wait()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({place for place, _ in found.values()}) == 8
    assert all(own for _, own in found.values())


LEFT = ["", ".lock", ".config.yaml.partial", "config.yaml", "environment.json",
        ".environment.json.partial", "split_manifest.json", ".split_manifest.json.partial",
        ".record.jsonl.partial"]  # fmt: skip


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("output", [None, Path("runs/run")])
@pytest.mark.parametrize("count", range(len(LEFT)))
def test_whatever_a_kill_leaves_can_be_started_and_resumed(start, count, output, resume):
    place = Path("runs/run")
    place.mkdir(parents=True)
    for name in LEFT[1 : count + 1]:
        text = yaml.safe_dump(plain(of())) if name == "config.yaml" else "half"
        (place / name).write_text(text)
    assert start(of(), output, resume) == (place, resume and count >= 3)
    assert plain(recipe_of(place)) == plain(of())
    assert not (place / ".config.yaml.partial").exists() or (resume and count >= 3)


@pytest.mark.parametrize("there", ["nothing", "folder", "other"])
def test_resume_with_nothing_to_resume_begins(start, capsys, there):
    place = Path("given")
    if there != "nothing":
        place.mkdir()
    if there == "other":
        (place / "thesis.tex").touch()
        with pytest.raises(ClbenchError, match="given already holds another run or other files"):
            start(of(), place, resume=True)
        return
    assert start(of(), place, resume=True) == (place, False)
    assert capsys.readouterr().out == "Nothing to resume in given: the run begins.\n"
    assert start(of(), place, resume=True) == (place, True)  # the same command, requeued
    assert start(of(), None, resume=True) == (Path("runs/run"), False)
    assert start(of(), None, resume=True) == (Path("runs/run"), True)
    # Another recipe of that name is another run.
    assert start(of(batch_size=16), None, resume=True) == (Path("runs/run-2"), False)
    assert start(of(batch_size=16), None, resume=True) == (Path("runs/run-2"), True)
    assert start(of(), None, resume=True) == (Path("runs/run"), True)


def test_data_may_move_while_a_run_rests(start):
    place, _ = start(of(), Path("given"))
    assert start(of(data_dir="elsewhere"), place, resume=True) == (place, True)
    assert recipe_of(place).data_dir == Path("elsewhere")
    with pytest.raises(ClbenchError, match=r"another recipe \(different: seed\)"):
        start(of(seed=7), place, resume=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must be a mapping"),
        (b"- 1\n", "must be a mapping"),
        (b"\xff", "UTF-8"),
        (b"{", "line 2"),
        (b"epochs: 1\n", "stream"),
        (None, "is a folder, not a file"),
    ],
)
def test_an_odd_config_is_one_line(start, content, reason):
    place = Path("given")
    place.mkdir()
    if content is None:
        (place / "config.yaml").mkdir()
    else:
        (place / "config.yaml").write_bytes(content)
    for act in (
        lambda: start(of(), place, resume=True),
        lambda: recipe_of(place),
        lambda: parse(values(read_arguments(["--resume", "--output", "given"]))),
    ):
        with pytest.raises(ClbenchError) as caught:
            act()
        assert "\n" not in str(caught.value)
        assert reason in str(caught.value) or reason == "stream"
    assert not (place / "record.jsonl").exists()


def test_links_in_a_strangers_folder_are_refused_before_the_lock_is_taken(start, tmp_path):
    place, _ = start(of(), Path("given"))
    (tmp_path / "precious").write_text("mine")
    (place / ".lock").unlink()
    (place / ".lock").symlink_to(tmp_path / "precious")
    for resume in (False, True):
        with pytest.raises(ClbenchError, match="out of the run folder"):
            start(of(), place, resume=resume)
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_run_without_its_record(start):
    place, _ = start(of(), Path("given"))
    (place / "checkpoints").mkdir()
    (place / "checkpoints" / "task_001.pt").touch()
    with pytest.raises(ClbenchError, match=r"given holds a run without its record\.jsonl: put"):
        start(of(), place, resume=True)


def test_a_run_without_its_config(start):
    place, _ = start(of(), Path("given"))
    (place / "record.jsonl").touch()
    (place / "config.yaml").unlink()
    with pytest.raises(ClbenchError, match=r"given holds a run without its config\.yaml"):
        start(of(), place, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_places_that_can_be_no_folder_are_one_line(start, resume):
    Path("file").touch()
    for place in (Path("file"), Path("file/run"), Path("x" * 300)):
        with pytest.raises(ClbenchError) as caught:
            start(of(), place, resume)
        assert "\n" not in str(caught.value)


def test_a_run_that_is_refused_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = RECIPE | {
        "data_dir": str(tmp_path / "data"),
        "model": {"backbone": "no_such", "weights": "none"},
    }
    for _ in range(2):
        with pytest.raises(ClbenchError, match="no timm model"):
            clbench.run(wrong)
    assert not list(Path("runs").iterdir())
    mine = Path("mine")
    mine.mkdir()
    (mine / "notes.txt").touch()
    run_folder.give_back(mine)
    assert (mine / "notes.txt").exists()


def test_the_commit_of_a_run_is_that_of_the_code_and_of_no_other_repository(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", *OWN, *words], cwd=tmp_path, check=True, capture_output=True)

    def told():
        run_folder._git.cache_clear()
        return run_folder._git()

    own = tmp_path / "folder.py"
    own.write_text("")
    monkeypatch.setattr(run_folder, "__file__", str(own))
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    assert told() is None  # as in an environment that lies in a repository of the user's
    git("add", "folder.py")
    git("commit", "-q", "-m", "two")
    assert told()["changed"] is False
    own.write_text("# changed")
    assert told()["changed"] is True
    run_folder._git.cache_clear()
