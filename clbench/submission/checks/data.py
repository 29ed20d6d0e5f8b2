"""What is compared with data and weights that lie on this machine."""

from __future__ import annotations

import hashlib
import json

from clbench.submission.checks.base import of_every_run
from clbench.submission.here import Here, NotMade
from clbench.submission.submission import PackedRun


@of_every_run
def manifest(one: PackedRun, here: Here) -> str | None:
    """A list of what was held out that is not the record's, or not of the record's tasks."""
    if one.manifest is None:
        raise NotMade("there is no split manifest")
    run, told = one.run.record.run, one.manifest
    text = json.dumps(told, sort_keys=True)
    if hashlib.sha256(text.encode()).hexdigest() != run.split_manifest_sha256:
        return "the split manifest does not have the SHA-256 that the record has"
    entries = told.get("tasks")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return "the split manifest has no list of tasks"
    if [entry.get("name") for entry in entries] != run.tasks:
        return "the split manifest has other tasks than the record"
    if run.test_images not in (None, [entry.get("test") for entry in entries]):
        return "the split manifest has other numbers of test images than the record"
    return None


@of_every_run
def split_of_data(one: PackedRun, here: Here) -> str | None:
    """Other images, labels or splits than the recipe makes of the data: made anew, of these."""
    told = one.run.record.run.split_manifest_sha256
    if told is None:
        raise NotMade("the record does not say which images it was trained and tested on")
    stream = here.stream(one.run)
    if told != stream.manifest_hash:
        older = (
            one.manifest is not None and one.manifest.get("version") != stream.manifest["version"]
        )
        if older or one.run.record.run.version == 0:
            raise NotMade("the record tells its images by another rule than today's")
        return f"its split is {told[:12]}, that of the data here {stream.manifest_hash[:12]}"
    names = [task.name for task in stream.tasks], [*stream.class_names]
    if names != (one.run.record.run.tasks, one.run.record.run.class_names):
        return "tasks or classes have other names than in the data"
    return None


@of_every_run
def pretrained(one: PackedRun, here: Here) -> str | None:
    """Other weights than those of their name, where these lie here."""
    told = one.run.record.run.weights.sha256
    if told is None:
        raise NotMade("the record has no SHA-256 of its weights")
    found = here.weights(one.run)
    if told != found:
        return f"its weights are {told[:12]}, those of that name here {found[:12]}"
    return None
