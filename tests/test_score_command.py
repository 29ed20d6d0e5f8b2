"""``clbench score``: matrices as people have them, and what is no matrix."""

import json
import subprocess
import sys

import numpy as np
import pytest

from clbench.cli.cli import main
from clbench.record import scores

R = [[0.9, np.nan, np.nan], [0.5, 0.7, np.nan], [0.4, 0.6, 0.8]]
LOWER = "0.9,,\n0.5,0.7,\n0.4,0.6,0.8\n"


@pytest.fixture
def score(tmp_path, capsys):
    """Run the command on a text: exit code, and both streams."""

    def run(text, *words):
        path = tmp_path / "matrix.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        code = main(["score", str(path), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        (LOWER, "fractions"),
        ("\n# by hand\n" + LOWER + "\n", "fractions"),
        (LOWER.replace(",,", ",nan,NaN").replace("\n", "\r\n"), "fractions"),
        ("\ufeff90;;\n50,0;70;\n40;60;80\n", "percent"),
        ("90\t-\t–\n50\t70\t\n40\t60\t80", "percent"),
        ("  9e-1 nan nan\n 5e-1 7e-1 nan\n4e-1  6e-1 8e-1\n", "fractions"),
        ("a,b,c\n" + LOWER, "fractions"),
        (",a,b,c\na,0.9,,\nb,0.5,0.7,\nc,0.4,0.6,0.8\n", "fractions"),
        (",0,1,2\n0,0.9,,\n1,0.5,0.7,\n2,0.4,0.6,0.8\n", "fractions"),
        ("a,0.9,,\nb,0.5,0.7,\nc,0.4,0.6,0.8\n", "fractions"),
        ("t,1,2,3\n1,90,,\n2,50,70,\n3,40,60,80\n", "percent"),
        ("after,a,b,c\n0,90,N/A,N/A\n1,50,70,N/A\n2,40,60,80\n", "percent"),
        ("0.9,N/A,N/A\n0.5,0.7,\n0.4,0.6,0.8\n", "fractions"),
    ],
)
def test_reads_matrices_as_people_have_them(score, text, read_as):
    code, out, _ = score(text, "--json")
    found = json.loads(out)
    assert (code, found["read_as"], found["tasks"]) == (0, read_as, 3)
    assert found["scores"]["accuracy"] == pytest.approx(scores.all_scores(R), abs=1e-12)


def test_takes_images_a_baseline_and_a_reference(score):
    words = ("--images", "10", "20", "70", "--baseline", "0.25", "--reference", "1", "1", "0.9")
    whole = "0.9,0.3,0.1\n0.5,0.7,0.2\n0.4,0.6,0.8"
    found = json.loads(score(whole, *words, "--json")[1])["scores"]["accuracy"]
    matrix = [[0.9, 0.3, 0.1], [0.5, 0.7, 0.2], [0.4, 0.6, 0.8]]
    assert found == scores.all_scores(matrix, [10, 20, 70], 0.25, [1, 1, 0.9])
    assert None not in found.values()
    percent = ("--baseline", "25", "--reference", "100", "100", "90", "--json")
    of_percent = json.loads(score("90,30,10\n50,70,20\n40,60,80", *words[:4], *percent)[1])
    assert of_percent["scores"]["accuracy"] == pytest.approx(found)


def test_the_table_says_what_was_taken_and_what_a_score_needs(score):
    _, out, _ = score(LOWER)
    lines = out.splitlines()
    assert lines[0].endswith("matrix.csv: 3 tasks, read as fractions; rows are time")
    (average,) = (line for line in lines if "Ā)" in line)
    assert average.endswith(" 70.00")
    (needs,) = (line for line in lines if "intransigence" in line)
    assert needs.endswith("–  needs --reference")
    assert "two tasks" in score("0.5")[1]


def test_reads_what_a_run_leaves(tmp_path, capsys):
    from report.test_report import write

    from clbench.runner import outputs

    record = write(tmp_path / "run", 3)
    outputs._write(record, "accuracy_matrix.csv", lambda: outputs._matrices(record))
    assert main(["score", str(tmp_path / "run"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    summary = record.summary()
    for scenario, of_scenario in found.items():
        for name in set(scores.LABELS) - {"intransigence"}:
            assert of_scenario[name] == summary[scenario][name]
    assert len(found) == 2
    assert main(["score", str(tmp_path)]) == 2
    assert "holds no accuracy_matrix.csv" in capsys.readouterr().err


def test_rows_of_a_run_are_taken_in_time(score):
    """As a spreadsheet leaves them that sorted by a score."""
    for names in ("abc", "012", "123"):
        rows = [f"{names[2]},0.4,0.6,0.8", f"{names[0]},0.9,,", f"{names[1]},0.5,0.7,"]
        text = "scenario,after_task,a,b,c\n" + "".join(f"class_incremental,{row}\n" for row in rows)
        found = json.loads(score(text, "--json")[1])["scores"]["class_incremental"]
        assert found == scores.all_scores(R)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("0.9,\n0.5\n", "line 2: 1 cells, but 2 in line 1: leave cells empty"),
        ("0.9,0.5\n", "holds 1 rows of 2 numbers: an accuracy matrix is square"),
        ("a,b\n", "holds 0 rows"),
        ("scenario,after_task,a\n", "holds 0 rows"),
        ("x,0\n0.5,0.1\n", "line 1, task 1: 'x' is no number"),
        ("0.9,0\n0.5,x\n", "line 2, task 2: 'x' is no number"),
        ("0.9,0\n0.5,1_0\n", "line 2, task 2: '1_0' is no number"),
        ("0.9,0\n0.5,-0.1\n", "'-0.1' is no accuracy: it should be in 0…1, or in 0…100 %"),
        ("0.9,0\n0.5,101\n", "'101' is no accuracy"),
        ("0.9,0\n0.5,inf\n", "'inf' is no accuracy"),
        (",\n,0\n".replace("0", ""), "is empty"),
        ("nan,nan\nnan,nan\n", "all of its cells are empty"),
        (b"\xff\xfe0", "matrix.csv"),
        ("0.9,0.3,0.1*\n0.6,0.8,0.2\n0.5,0.7,0.9\n", "line 1, task 3: '0.1*' is no number"),
        ("a,b,c\n0.9,0.1,0.2\n0.6,0.8,0.3\n", "holds 2 rows of 3 numbers"),
        (
            "scenario,after_task,a,b\nx,2,0.5,0.6\nx,2,0.4,\n",
            "after_task should name each column once",
        ),
    ],
)
def test_what_is_no_matrix_is_one_line(score, text, reason):
    code, out, err = score(text)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert reason in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--images", "1", "2"), "--images: 2 numbers for 3 tasks"),
        (
            ("--images", "1", "2", "0"),
            "a whole number of them, at least one",
        ),
        (("--images", "1", "2", "nan"), "--images: nan is not in 0…1e+12"),
        (("--images", "1", "2", "2.5"), "--images: every task has a whole number of them"),
        (("--images", "1", "2", "1e308"), "--images: 1e+308 is not in 0…1e+12"),
        (("--baseline", "0.1", "0.2"), "--baseline: 2 numbers for 3 tasks"),
        (("--baseline", "10"), "--baseline: 10 is not in 0…1"),
        (("--reference", "0.5"), "--reference: 1 numbers for 3 tasks"),
        (("--reference", "x"), "'x' is no number"),
    ],
)
def test_what_does_not_fit_is_one_line(score, words, reason):
    code, _, err = score(LOWER, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert reason in err


def test_needs_no_torch(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(LOWER)
    code = (
        "import sys; from clbench.cli.cli import main; "
        f"main(['score', {str(path)!r}]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
