"""One seed of a row is run again, and what comes out decides."""

import json
from dataclasses import replace

import pytest
from submitted import PLUGIN, RECIPE, of_run, quiet, sealed

from clbench.cli.commands import command
from clbench.errors import ClbenchError
from clbench.plugins.loading import forget
from clbench.runner.runner import run
from clbench.submission import Rerun, opened, pack, read_verdicts, verify
from clbench.submission.here import NotMade
from clbench.submission.rerunning import _compared
from clbench.submission.verdicts import verdict_path, write_verdicts


@pytest.fixture(autouse=True)
def briefly(no_pictures):
    pass


def raised(members, by, rows=(0, 1)):
    """The task-incremental accuracies of runs raised by so much, in whole images; all fits."""

    def change(events):
        images = events[0]["test_images"]
        for event in events[2:-1]:
            for part in (event, *event["curve"]):
                values = part["task_incremental"]
                for task, value in enumerate(values):
                    value = min(1.0, value + by)
                    values[task] = round(value * images[task]) / images[task]

    for number in rows:
        members = of_run(members, number, change)
    return members


def test_a_seed_that_comes_out_the_same_is_verified(honest, tmp_path, capsys):
    rows = verify(opened(honest), rerun=Rerun(tmp_path / "again", tell=lambda _: None))
    assert [row.verdict for row in rows] == ["verified"] * 2
    for row in rows:
        assert all("equal in every accuracy" in reason for reason in row.reasons)
        assert row.made[-1] == "rerun"
    assert len(list((tmp_path / "again").glob("run-*/record.jsonl"))) == 2


def test_accuracies_that_do_not_come_out_are_disputed_with_both_numbers(members, tmp_path):
    path = tmp_path / "forged.clbench.zip"
    path.write_bytes(sealed(raised(members, 0.3)))
    found = opened(path)
    assert [row.verdict for row in verify(found)] == ["self-reported"] * 2  # all of it fits
    first, second = verify(found, rerun=Rerun(rows=("sequential",), tell=lambda _: None))
    assert (first.verdict, second.verdict) == ("disputed", "self-reported")
    assert any("rerun: seed" in r and "submitted and" in r for r in first.reasons)


def test_the_seed_is_drawn_by_the_file(honest, members, tmp_path):
    from clbench.submission.rerunning import drawn_seed
    from clbench.submission.verifying import rows_in

    drawn = set()
    for number in range(8):
        path = tmp_path / f"{number}.clbench.zip"
        path.write_bytes(sealed(members, title=f"T{number}"))
        found = opened(path)
        drawn.add(drawn_seed(found, rows_in(found)[0]).run.seed)
    assert drawn == {0, 1}


class Made:
    """A record of one matrix."""

    def __init__(self, matrix):
        import numpy as np

        self.matrix = np.array(matrix)

    def accuracy_matrix(self, _):
        return self.matrix

    def summary(self):
        return {"task_incremental": {"overall_performance": float(self.matrix[-1].mean())}}


def compared(there, here, seeds):
    matrices = [[[value, 0.0], [value, value]] for value in (there, here, *seeds)]
    one, other, *rest = map(Made, matrices)
    return _compared(one, other, rest, "task_incremental")


@pytest.mark.parametrize(
    ("there", "here", "seeds", "outcome"),
    [
        (0.80, 0.80, [0.80], "holds"),
        (0.80, 0.785, [0.80], "holds"),
        (0.80, 0.775, [0.80], "fails"),  # two points are allowed, and no more of one seed
        (0.80, 0.765, [0.80, 0.82, 0.78], "holds"),  # as two of its own seeds
        (0.80, 0.755, [0.80, 0.82, 0.78], "fails"),
        (0.80, 0.695, [0.80, 0.20, 0.99], "tells nothing"),  # of seeds so far apart
        (0.80, 0.705, [0.80, 0.20, 0.99], "holds"),
        (0.80, 0.001, [0.80, 0.20, 0.99], "fails"),
    ],
)
def test_how_far_a_rerun_may_lie_apart(there, here, seeds, outcome):
    found = compared(there, here, seeds)
    told = "fails" if found.fails else "holds" if found.holds else "tells nothing"
    assert told == outcome


def test_verdicts_are_written_and_bound_to_the_file(honest, members, tmp_path, capsys):
    path = tmp_path / "mine.clbench.zip"
    path.write_bytes(honest.read_bytes())
    assert command(["verify", str(path), "--write"]) == 0
    assert verdict_path(path).name == "mine.verdict.json"
    told = read_verdicts(opened(path))
    assert told.verdicts == verify(opened(path))
    assert told.submission_sha256 == opened(path).sha256
    path.write_bytes(sealed(members, title="Another"))
    with pytest.raises(ClbenchError, match="of another file"):
        read_verdicts(opened(path))
    path.write_bytes(honest.read_bytes())
    for change, says in (
        ({"format": 9}, "format 9"),
        ({"rows": [{}]}, "rows"),
        ({"more": 1}, "more"),
    ):
        values = json.loads(verdict_path(path).read_text())
        verdict_path(path).write_text(json.dumps(values | change))
        with quiet(), pytest.raises(ClbenchError, match=says):
            read_verdicts(opened(path))
        verdict_path(path).write_text(json.dumps(values))
    verdict_path(path).unlink()
    assert read_verdicts(opened(path)) is None


def test_options_of_a_rerun_need_it(honest):
    with pytest.raises(ClbenchError, match="--rows is about what is run again: add --rerun"):
        command(["verify", str(honest), "--rows", "sfa"])
    with pytest.raises(ClbenchError, match="there is no row 'x'; there are sequential, sfa"):
        command(["verify", str(honest), "--rerun", "--rows", "x"])


def test_code_of_others_is_not_run(tmp_path, capsys):
    place = tmp_path / "theirs" / "my_idle.py"
    place.parent.mkdir()
    place.write_text(PLUGIN)
    run(RECIPE | {"plugins": [str(place)], "methods": {"idle": {}}}, tmp_path / "runs" / "a")
    path = tmp_path / "a.clbench.zip"
    pack([tmp_path / "runs"], path, "T", ["A"], with_plugins=True)
    forget("my_idle.py")
    silent = Rerun(tell=lambda _: None)
    (row,) = verify(opened(path), rerun=silent)
    assert row.verdict == "self-reported"
    assert "needs the plugin my_idle.py" in row.not_made["recipe"]
    assert "if you trust it, name it" in row.not_made["rerun"]
    mine = tmp_path / "mine" / "my_idle.py"
    mine.parent.mkdir()
    mine.write_text(PLUGIN + "# another\n")
    (row,) = verify(opened(path), rerun=Rerun(plugins=(str(mine),), tell=lambda _: None))
    assert row.verdict == "self-reported"
    assert "has changed" in row.not_made["rerun"]
    forget("my_idle.py")
    mine.write_text(PLUGIN)
    (row,) = verify(opened(path), rerun=Rerun(plugins=(str(mine),), tell=lambda _: None))
    assert row.verdict == "verified"
    forget("my_idle.py")


def test_code_beside_a_submission_must_be_what_was_run(tmp_path):
    from submitted import members_of

    place = tmp_path / "my_idle.py"
    place.write_text(PLUGIN)
    run(RECIPE | {"plugins": [str(place)], "methods": {"idle": {}}}, tmp_path / "runs" / "a")
    path = tmp_path / "a.clbench.zip"
    pack([tmp_path / "runs"], path, "T", ["A"], with_plugins=True)
    forged = members_of(path) | {"plugins/my_idle.py": b"print('harmless')"}
    path.write_bytes(sealed(forged))
    (row,) = verify(opened(path))
    assert row.reasons == ("plugins: the code of my_idle.py that came along is not what was run",)
    forget("my_idle.py")


def test_what_is_not_here_is_not_run(members, tmp_path):
    def change(events):
        recipe = events[0]["recipe"]
        events[0]["recipe"] = recipe.replace(
            "weights: none", "weights: /home/me/secret/theirs.safetensors"
        )

    made = members
    for number in (0, 1):
        made = of_run(made, number, change)
    path = tmp_path / "a.clbench.zip"
    path.write_bytes(sealed(made))
    row = verify(opened(path), data_dir=tmp_path, rerun=Rerun(tell=lambda _: None))[0]
    assert row.not_made["weights of the name"] == f"needs theirs.safetensors in {tmp_path.name}"


def test_runs_of_several_files_lie_apart(honest, members, tmp_path, capsys):
    for name in "ab":
        (tmp_path / f"{name}.clbench.zip").write_bytes(sealed(members, title=name))
    paths = [str(tmp_path / f"{name}.clbench.zip") for name in "ab"]
    words = ["--rerun", "--rows", "sequential", "--output", str(tmp_path / "again")]
    assert command(["verify", *paths, *words]) == 0
    assert capsys.readouterr().out.count("run again: task-incremental: equal") == 2
    found = (tmp_path / "again").glob("*/run-*/record.jsonl")
    assert {path.parent.parent.name for path in found} == {"a", "b"}


def test_a_rerun_is_refused_where_one_lies_and_nothing_is_written_over(honest, tmp_path, capsys):
    path, other = tmp_path / "a.clbench.zip", tmp_path / "b" / "a.clbench.zip"
    other.parent.mkdir()
    for one in (path, other):
        one.write_bytes(honest.read_bytes())
    found = opened(path)
    rows = [replace(row, verdict="verified", made=("rerun",)) for row in verify(found)]
    verdicts = write_verdicts(found, rows, "0.1.0", "2026-01-31", {})
    before = verdicts.read_bytes()
    taken = tmp_path / "again" / "run-0"
    taken.mkdir(parents=True)

    def refused(*words):
        with pytest.raises(ClbenchError) as caught:
            command(["verify", *map(str, words)])
        assert verdicts.read_bytes() == before
        return str(caught.value)

    assert "holds run-0 of an earlier rerun" in refused(path, "--rerun", "--output", taken.parent)
    assert "would be lost" in refused(path, "--write")
    assert "would be lost" in refused(path, "--rerun", "--rows", "sfa")
    assert "one name" in refused(path, other, "--rerun", "--output", tmp_path / "new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        assert "cannot be written" in refused(path, "--rerun")
    verdict_path(other).mkdir()
    assert "is a folder" in refused(other, "--write")
    (tmp_path / "file").write_text("")
    assert "file" in refused(path, "--rerun", "--output", tmp_path / "file")
    assert "Running again" not in capsys.readouterr().out
    assert not any((tmp_path / "again" / "run-0").iterdir())


def test_a_rerun_that_cannot_be_made_takes_no_earlier_one_away(honest, tmp_path, capsys):
    def full(*_):
        raise NotMade("no room on the disk")

    path = tmp_path / "a.clbench.zip"
    path.write_bytes(honest.read_bytes())
    found = opened(path)
    rows = [replace(row, verdict="verified", made=("rerun",)) for row in verify(found)]
    verdicts = write_verdicts(found, rows, "0.1.0", "2026-01-31", {})
    before = verdicts.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clbench.submission.rerunning.again", full)
        command(["verify", str(path), "--rerun"])
    assert "could not be made now" in capsys.readouterr().out
    assert verdicts.read_bytes() == before


def test_other_threads_are_another_place():
    from types import SimpleNamespace

    from clbench.submission.rerunning import _place

    one, two = (SimpleNamespace(environment_hash="a", environment={"threads": n}) for n in (1, 2))
    assert _place(one) != _place(two)
    assert _place(one) == _place(SimpleNamespace(**vars(one)))
