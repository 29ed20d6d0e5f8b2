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

from clbench.methods import METHODS
from clbench.report.names import title

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "studies"))

import claims  # noqa: E402
import imagenet_forgetting  # noqa: E402
import mofo_digits  # noqa: E402
import suite_page  # noqa: E402
from suite_page import Claim, Study  # noqa: E402

SCORES = {"sequential": (0.5, 0.52, 0.54), "good": (0.7, 0.75, 0.71), "noisy": (0.2, 0.9, 0.6)}
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
            config = {"name": f"{name}-seed{seed}", "optimizer": {"lr": len(name)}}
            place = f"{name}-seed{seed}"
            run_folder(
                tmp_path / "runs", seed=seed, op=op, config=config, folder=place, title=place
            )
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
    noisy = "too noisy to say"
    assert verdicts == ["reproduced", "not reproduced", "not reproduced", noisy, noisy]
    told = rows["good beats sequential"]["difference"]
    gaps = np.subtract(SCORES["good"], SCORES["sequential"])
    interval = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    np.testing.assert_allclose(told, [gaps.mean(), *interval])
    assert (folder / "frontier.png").stat().st_size > 1000
    assert "secret" not in (folder / "environment.json").read_text()
    before = text
    assert suite_page.write(STUDY, folder).read_text() == before


def test_all_claims_are_those_of_the_pages(folder, tmp_path):
    suite_page.write(STUDY, folder)
    claims.main(["--output", str(tmp_path)])
    text = (tmp_path / "claims.md").read_text()
    assert "Of 5 claims: 1 reproduced, 2 not reproduced, 2 too noisy to say." in text
    assert "## [Made up](kept/README.md)" in text
    page = folder / "README.md"
    page.write_text(page.read_text().replace("| not reproduced |", "| perhaps |"))
    with pytest.raises(ValueError, match="'perhaps' is no verdict"):
        claims.main(["--output", str(tmp_path)])


@pytest.mark.parametrize("study", [imagenet_forgetting.STUDY, mofo_digits.STUDY])
def test_studies_name_methods_of_their_suites(study):
    names = (study.name, *study.more)
    suites = [yaml.safe_load((ROOT / "suites" / f"{name}.yaml").read_text()) for name in names]
    named = {name for claim in study.claims for name in (claim.better, claim.worse)}
    shown = {
        title(name, {m: METHODS[m](**fields).model_dump() for m, fields in methods.items()})
        for suite in suites
        for name, methods in suite["methods"].items()
    }
    assert named | {study.reference} <= shown


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"distance_over": "trunk"}, "distance to θ_*"),
        ({}, "distance to θ_*, head included"),
    ],
)
def test_distances_of_older_records_are_shown_as_what_they_are(event, shown):
    run = SimpleNamespace(record=SimpleNamespace(tasks=[event]))
    section = SimpleNamespace(groups=[SimpleNamespace(finished=[run])])
    study = SimpleNamespace(metrics={"distance": "distance to θ_*", "retention": "retention"})
    assert suite_page.heading(section, study, "distance") == shown
    assert suite_page.heading(section, study, "retention") == "retention"
