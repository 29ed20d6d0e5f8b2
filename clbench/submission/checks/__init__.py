"""What can be checked of a row of a submission: a table of small functions."""

from __future__ import annotations

from collections.abc import Mapping

from clbench.submission.checks import counts, data, recipes, records
from clbench.submission.checks.base import Check

#: By the name that people read; each function's first line says what it catches.
CHECKS: Mapping[str, Check] = {
    "recipe": recipes.recipe,
    "record of the recipe": recipes.recorded,
    "config.yaml": recipes.config,
    "stream's version": recipes.version,
    "environment": recipes.environment_fits,
    "plugins": recipes.plugins,
    "scores": records.scores,
    "scenarios": records.scenarios,
    "order of steps": records.order,
    "times": records.times,
    "retention": records.retention,
    "seeds": records.seeds_once,
    "copies": records.copies,
    "splits of all seeds": records.splits,
    "weights of all seeds": records.weights,
    "sizes": counts.sizes,
    "whole images": counts.whole_images,
    "whole images held out": counts.held_out,
    "steps": counts.steps,
    "parameters": counts.network_size,
    "split manifest": data.manifest,
    "split of the data": data.split_of_data,
    "weights of the name": data.pretrained,
}
