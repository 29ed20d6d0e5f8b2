"""Pages of studies that are suites, from made-up records; and the table of all claims."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from report.made_up import run_folder
from scipy import stats

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "studies"))

import claims  # noqa: E402
import imagenet_forgetting  # noqa: E402
import mofo_stream  # noqa: E402
import suite_page  # noqa: E402
from suite_page import Claim, Study  # noqa: E402

from clbench.report.confounds import MARK  # noqa: E402

SCORES = {"sequential": (0.5, 0.52, 0.54), "good": (0.7, 0.73, 0.74), "noisy": (0.2, 0.9, 0.6)}
STUDY = Study(
    name="made_up",
    title="Made up",
    about="About.",
    reading="Reading.",
    claims=(
        Claim("good beats sequential", "good", "sequential"),
        Claim("sequential beats good", "sequential", "good"),
        Claim("good is lower", "good", "sequential", sign=-1),
        Claim("noisy beats sequential", "noisy", "sequential"),
        Claim("nobody beats sequential", "nobody", "sequential"),
    ),
)


@pytest.fixture
def folder(tmp_path):
    for name, values in SCORES.items():
        for seed, op in enumerate(values):
            place = f"{name}-seed{seed}"
            methods = {} if name == "sequential" else {"sfa": {"p": len(name)}}
            about = {"config": {"name": place}, "folder": place, "title": place}
            run_folder(tmp_path / "runs", methods, seed, op, **about)
    environment = next((tmp_path / "runs").glob("*")) / "environment.json"
    environment.write_text(json.dumps({"python": "3", "command": ["secret"]}))
    suite_page.keep([tmp_path], tmp_path / "kept")
    return tmp_path / "kept"


def test_a_page_from_kept_records(folder):
    text = suite_page.write(STUDY, folder).read_text()
    assert "About." in text
    assert "| sequential | 52.0 ± 2.0 |" in text
    rows = {row["claim"]: row for row in json.loads((folder / "claims.json").read_text())}
    verdicts = [row["verdict"] for row in rows.values()]
    noisy, none = "too noisy to say", "not a test"
    assert verdicts == ["reproduced", "not reproduced", "not reproduced", noisy, none]
    assert rows["nobody beats sequential"]["not_a_test"] == ["no runs of nobody"]
    told = rows["good beats sequential"]["difference"]
    gaps = np.subtract(SCORES["good"], SCORES["sequential"])
    interval = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    np.testing.assert_allclose(told, [gaps.mean(), *interval])
    assert (folder / "frontier.png").stat().st_size > 1000
    assert "secret" not in (folder / "environment.json").read_text()
    before = text
    assert suite_page.write(STUDY, folder).read_text() == before


def test_a_page_in_a_relative_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    suite_page.write(STUDY, Path(folder.name))
    assert ",records/good-seed0/record.jsonl," in (folder / "sources.csv").read_text()


def test_all_claims_are_those_of_the_pages(folder, tmp_path):
    suite_page.write(STUDY, folder)
    claims.main(["--output", str(tmp_path)])
    text = (tmp_path / "claims.md").read_text()
    assert "Of 5 claims, 3 are decided: 1 reproduced, 2 not reproduced, 0 too small" in text
    assert "## [Made up](kept/README.md)" in text
    page = folder / "README.md"
    page.write_text(page.read_text().replace("| not reproduced |", "| perhaps |"))
    with pytest.raises(ValueError, match="'perhaps' is no verdict"):
        claims.main(["--output", str(tmp_path)])


def suite(place, seeds=4, lr=0.1, **about):
    """Runs of a made-up suite: l2 at another rate than plain fine-tuning, ewc at the same."""
    rates = {"sequential": 0.1, "ewc": 0.1, "l2": lr}
    for number, (name, rate) in enumerate(rates.items()):
        methods = {} if name == "sequential" else {name: {}}
        for seed in range(seeds):
            own = {"name": f"{name}-seed{seed}", "optimizer": {"lr": rate}}
            made = about | {"config": own, "folder": own["name"], "title": own["name"]}
            op = 0.5 + number / 10 + seed * (number + 1) / 500
            run_folder(place / "runs", methods, seed, op, **made)
    return place


def judged(folder):
    return {row["claim"]: row for row in json.loads((folder / "claims.json").read_text())}


def test_a_page_of_several_streams_and_scenarios(tmp_path):
    suites = [suite(tmp_path / "digits"), suite(tmp_path / "letters", tasks=3, lr=0.2)]
    (suites[1] / "tuning.json").write_text(json.dumps({"cells": []}))
    suite_page.keep(suites, tmp_path / "kept")
    study = Study(
        name="kept",
        title="Two streams",
        about="",
        claims=(
            Claim("ewc on digits", "ewc", "sequential", section="Digits"),
            Claim(
                "ewc by class",
                "ewc",
                "sequential",
                "overall_performance",
                1,
                "class_incremental",
                "Letters",
            ),
            Claim("l2 at its rate", "l2", "sequential", section="Letters"),
            Claim("l2 as published", "l2", "sequential", section="Letters", part="optimizer.lr"),
            Claim("no worse", "ewc", "l2", section="Digits", kind="no_less", margin=0.2),
        ),
        streams={"Letters": "letters", "Digits": "2 tasks"},
        only=("digits", "letters"),
        scenarios=("task_incremental", "class_incremental"),
    )
    text = suite_page.write(study, tmp_path / "kept").read_text()
    assert text.index("## Letters") < text.index("## Digits") < text.index("## Claims")
    assert {p.name for p in (tmp_path / "kept" / "records").iterdir()} == {"digits", "letters"}
    assert (tmp_path / "kept" / "records" / "letters" / "tuning.json").is_file()
    assert text.count("class-incremental, mean ± standard deviation") == 2
    for file in ("frontier-task_incremental-letters", "frontier-class_incremental-digits"):
        assert f"![frontier]({file}.png)" in text
        assert (tmp_path / "kept" / f"{file}.png").is_file()
    assert "`clbench compare digits`, `clbench compare letters`" in text
    found = judged(tmp_path / "kept")
    outcomes = {name: row["verdict"] for name, row in found.items()}
    assert outcomes == {
        "ewc on digits": "reproduced",
        "ewc by class": "reproduced",
        "l2 at its rate": "not a test",
        "l2 as published": "reproduced",
        "no worse": "reproduced",
    }
    assert found["ewc by class"]["compared"] == "ewc − sequential, OP, class-incremental, Letters"
    twice = found["ewc on digits"]["difference"][0] / found["ewc by class"]["difference"][0]
    assert twice == pytest.approx(2)
    assert found["l2 at its rate"]["not_a_test"] == ["learning rate 0.2, not 0.1"]
    assert "| l2 as published | – | learning rate 0.2, not 0.1 |" in text
    assert "*no worse*: no less but for 20" in text
    assert "l2: from sequential: learning rate 0.2, not 0.1" in text  # beside the table, too
    assert text.count(f" {MARK} |") == 4  # two scores in each scenario


def test_claims_name_their_stream(tmp_path):
    suites = [suite(tmp_path / "digits"), suite(tmp_path / "letters", tasks=3)]
    suite_page.keep(suites, tmp_path / "kept")
    claims_ = (Claim("nowhere", "ewc", "sequential"),)
    study = Study("kept", "Two", "", claims_, streams={"A": "digits", "B": "letters"})
    with pytest.raises(ValueError, match="is about the stream ''; there are 'A', 'B'"):
        suite_page.write(study, tmp_path / "kept")
    study = Study("kept", "Two", "", (), streams={"A": "split_digits"})
    with pytest.raises(ValueError, match="'split_digits' stands for 2 of the streams"):
        suite_page.write(study, tmp_path / "kept")


def test_claims_without_effect_or_runs_are_no_tests(tmp_path):
    place = suite(tmp_path / "one")
    for seed in range(4):
        about = {"folder": f"sfa-{seed}", "title": f"sfa-seed{seed}", "active": 0.0}
        config = {"name": f"sfa-seed{seed}", "optimizer": {"lr": 0.1}}
        run_folder(place / "runs", {"sfa": {}}, seed, 0.9, config=config, **about)
        about = {"folder": f"weak-{seed}", "title": f"sfa_weak-seed{seed}", "scope": 0.01}
        config |= {"name": f"sfa_weak-seed{seed}", "methods": {"sfa": {"p": 0.1}}}
        run_folder(place / "runs", {"sfa": {}}, seed, 0.8, config=config, **about)
    suite_page.keep([place], tmp_path / "kept")
    claims_ = (
        Claim("idle", "sfa", "sequential"),
        Claim("idle too", "ewc", "sfa"),
        Claim("lost", "ewc", "nobody"),
        Claim("one of several idle", "ewc", ("sfa", "sequential")),
        Claim("all idle", "ewc", ("sfa", "sfa_weak")),
        Claim("no forgetting of its own", "ewc", "sequential", "backward_transfer"),
        Claim("nearer", "ewc", "l2", "seconds", -1),
    )
    suite_page.write(Study("one", "One", "", claims_), tmp_path / "kept")
    found = judged(tmp_path / "kept")
    assert found["idle"]["not_a_test"] == ["sfa had no effect in sfa"]
    assert found["idle too"]["verdict"] == "not a test"
    assert found["one of several idle"]["not_a_test"] == []
    none = ["sfa had no effect in sfa", "sfa could do next to nothing in sfa_weak"]
    assert found["all idle"]["not_a_test"] == none
    assert found["lost"]["not_a_test"] == ["no runs of nobody"]
    assert found["no forgetting of its own"]["verdict"] == "too noisy to say"
    assert found["nearer"]["p_holm"] == 1


def test_claims_against_several_rivals(tmp_path):
    suite_page.keep([suite(tmp_path / "one")], tmp_path / "kept")
    claims_ = (
        Claim("above both", "l2", ("sequential", "ewc")),
        Claim("above one", "ewc", ("sequential", "l2")),
        Claim("above nobody", "ewc", ("sequential", "nobody")),
    )
    text = suite_page.write(Study("one", "One", "", claims_), tmp_path / "kept").read_text()
    found = judged(tmp_path / "kept")
    verdicts = [row["verdict"] for row in found.values()]
    assert verdicts == ["reproduced", "not reproduced", "not a test"]
    assert found["above both"]["difference"][0] < 0.2  # that from ewc
    assert "| above both | l2 − ewc (of 2 the nearest), OP, task-incremental |" in text
    assert "| above one | ewc − l2 (of 2 the nearest), OP, task-incremental |" in text
    assert found["above nobody"]["not_a_test"] == ["no runs of nobody"]


def test_lost_seeds_are_seen(tmp_path):
    place = suite(tmp_path / "one")
    config = {"name": "ewc-seed9", "optimizer": {"lr": 0.1}}
    run_folder(
        place / "runs", {"ewc": {}}, 9, config=config, folder="ewc-9", title="ewc-seed9", end=False
    )
    suite_page.keep([place], tmp_path / "kept")
    study = Study("one", "One", "", (Claim("a", "ewc", "sequential"),))
    text = suite_page.write(study, tmp_path / "kept").read_text()
    assert "| 4 of 5 |" in text


@pytest.mark.parametrize("study", [imagenet_forgetting.STUDY, mofo_stream.STUDY])
def test_studies_name_methods_of_their_suites(study):
    texts = [(ROOT / "suites" / f"{name}.yaml").read_text() for name in study.suites]
    suites = list(map(yaml.safe_load, texts))
    named = {name for claim in study.claims for name in (claim.better, *claim.rivals)}
    assert named | {study.reference} <= {name for suite in suites for name in suite["methods"]}


@pytest.mark.parametrize(
    ("over", "shown"),
    [
        ("trunk", "distance to θ_*"),
        ("all", "distance to θ_*, head included"),
    ],
)
def test_distances_of_older_records_are_shown_as_what_they_are(over, shown):
    run = SimpleNamespace(record=SimpleNamespace(tasks=[SimpleNamespace(distance_over=over)]))
    section = SimpleNamespace(groups=[SimpleNamespace(finished=[run])])
    study = SimpleNamespace(metrics={"distance": "distance to θ_*", "retention": "retention"})
    assert suite_page.heading(section, study, "distance") == shown
    assert suite_page.heading(section, study, "retention") == "retention"


def test_next_to_no_difference_is_none_however_sure(tmp_path):
    gaps = {seed: 0.004 + 0.0002 * seed for seed in range(12)}

    def suite_of(folder):
        for seed, gap in gaps.items():
            for name, score in (("sequential", 0.5), ("ewc", 0.5 + gap)):
                about = {"folder": f"{name}-{seed}", "title": f"{name}-seed{seed}"}
                config = {"name": f"{name}-seed{seed}", "optimizer": {"lr": 0.1}}
                methods = {} if name == "sequential" else {name: {}}
                run_folder(folder / "runs", methods, seed, score, config=config, **about)
        return folder

    suite_page.keep([suite_of(tmp_path / "one")], tmp_path / "kept")
    claims_ = (
        Claim("by a point", "ewc", "sequential"),
        Claim("by anything", "ewc", "sequential", margin=0.0),
    )
    page = suite_page.write(Study("one", "One", "", claims_), tmp_path / "kept").read_text()
    found = judged(tmp_path / "kept")
    assert found["by a point"]["verdict"] == "too small to count"
    assert found["by anything"]["verdict"] == "reproduced"
    assert "below one point for certain" in page
