"""The model card: what was run and measured, as the Hugging Face hub reads it and people do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData

from clbench import __version__
from clbench.record.record import Record
from clbench.record.scores import LABELS
from clbench.report.formats import escape_markdown
from clbench.report.metrics import METRICS, SCENARIO_ABOUT, show
from clbench.report.templating import templates_of
from clbench.sharing.timm_config import StartWeights
from clbench.streams import data_sets
from clbench.text.hub_id import wrong_repository
from clbench.text.texts import cut_line, writable

#: Scores that the card shows of every scenario.
SCORES: Final = (
    "overall_performance",
    "average_incremental_accuracy",
    "backward_transfer",
    "forgetting",
    "learning_accuracy",
)
#: Those of them that are accuracies, for the hub's own table of results.
RESULTS: Final = ("overall_performance", "average_incremental_accuracy")
UNKNOWN: Final = "unknown"
TAGS: Final = ("timm", "image-classification", "continual-learning", "clbench")
#: Backbones that timm knows once clbench.models is imported.
OWN: Final = ("tiny_cnn", "tiny_vit")
#: Longer names of tasks, classes and settings are cut.
LONGEST: Final = 400


def card(
    record: Record,
    recipe: Mapping[str, Any],
    config: Mapping[str, Any],
    start: StartWeights,
    repository: str,
    license: str,
    pictures: Sequence[str] = (),
) -> str:
    """``README.md``: metadata, then Markdown in which every name is escaped.

    Args:
        record: of a finished run.
        recipe: its plain values, without paths.
        config: as :func:`~clbench.sharing.timm_config.timm_config` makes it.
        start: what the run started from.
        repository: ``user/name``, where it will be.
        license: of the weights, as the hub calls it; or ``unknown``.
        pictures: files beside it that it shows.
    """
    run, summary = record.run, record.summary()
    about = config["pretrained_cfg"]
    text = _template().render(
        metadata=_metadata(record, recipe, start, repository, license),
        version=__version__,
        run=run,
        start=start,
        own=run.backbone in OWN,
        repository=repository,
        license=license,
        pictures=pictures,
        size=about["input_size"][-1],
        seen=f"{100 * about['crop_pct']:.3g} %" if about["crop_pct"] < 1 else "",
        squash=about["crop_mode"] == "squash",
        normalisation=", ".join(f"{x:.3g}" for x in (*about["mean"], *about["std"])),
        scenarios=[(title, SCENARIO_ABOUT[title]) for title in record.scenarios.values()],
        scores=list(_scores(record, summary)),
        retention=list(_retention(summary["retention"])),
        facts=list(_facts(record, recipe, summary)),
        data=_data(recipe),
        limits=list(_limits(record, summary)),
        options=json.dumps(run.options) if run.options else "",
    )
    return re.sub(r"\n{3,}", "\n\n", writable(text))


@cache
def _template() -> Any:
    made = templates_of("clbench.sharing", escaped=False)  # Markdown: names go through `plain`
    made.filters["plain"] = _plain
    return made.get_template("card.md")


def _plain(text: object) -> str:
    """A text from outside for a line of Markdown."""
    return escape_markdown(cut_line(str(text), LONGEST))


def _metadata(
    record: Record, recipe: Mapping[str, Any], start: StartWeights, repository: str, license: str
) -> str:
    """What the hub's own pages and search read, as YAML."""
    summary, data = record.summary(), _on_the_hub(recipe)
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=data or record.run.stream,
            dataset_name=f"{record.run.stream}, {len(record.run.tasks)} tasks",
            metric_type="accuracy",
            metric_name=f"{LABELS[score]}, {title}",
            metric_value=round(summary[scenario][score], 6),
        )
        for scenario, title in record.scenarios.items()
        for score in RESULTS
        if summary[scenario][score] is not None
    ]
    found = ModelCardData(
        license=license,
        library_name="timm",
        pipeline_tag="image-classification",
        tags=list(TAGS),
        datasets=[data] if data else None,
        base_model=start.repository,
        model_name=repository.partition("/")[2],
        eval_results=results,
    )
    return found.to_yaml().strip()


def _on_the_hub(recipe: Mapping[str, Any]) -> str | None:
    """The data set's id on the hub, where the stream names one."""
    stream = recipe.get("stream") or {}
    name = str(stream.get("dataset") or "")
    known = stream.get("name") == "huggingface" and not wrong_repository(name)
    return name if known else None


def _data(recipe: Mapping[str, Any]) -> list[str]:
    """The data sets that a recipe names, as far as it names them."""
    stream = recipe.get("stream") or {}
    found = stream.get("datasets") or stream.get("dataset") or data_sets(stream.get("name", ""))
    return [str(one) for one in ([found] if isinstance(found, str) else found)]


def _scores(record: Record, summary: Mapping[str, Any]) -> Iterator[tuple[str, list[str], str]]:
    """A label, a number for each scenario, and what it means."""
    for score in SCORES:
        metric = METRICS[score]
        shown = [show(summary[scenario][score], metric.unit) for scenario in record.scenarios]
        yield LABELS[score], shown, metric.about.partition(": ")[2] or metric.about


def _retention(retention: Mapping[str, Any]) -> Iterator[str]:
    """A line for each measure of what is kept."""
    if retention["pretrained"] is not None and retention["change"] is not None:
        before, end = retention["pretrained"], retention["pretrained"] + retention["change"]
        yield (
            f"With the original head, top-1: {show(before, 'accuracy')} % before the stream, "
            f"{show(end, 'accuracy')} % after it."
        )
    for name, course in retention.get("measures", {}).items():
        if name != "head" and course["after_task"]:
            yield (
                f"By {_plain(name)}: {show(course['before'], 'accuracy')} % before the stream, "
                f"{show(course['after_task'][-1], 'accuracy')} % after it."
            )


def _facts(
    record: Record, recipe: Mapping[str, Any], summary: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    run, optimizer = record.run, recipe.get("optimizer") or {}
    yield "methods", json.dumps(run.methods) if run.methods else "none: plain fine-tuning"
    yield "tasks", f"{len(run.tasks)}: {'; '.join(run.tasks)}"
    yield "seed", str(run.seed)
    for key in ("epochs", "steps", "batch_size", "train_logits"):
        if recipe.get(key) is not None:
            yield key, str(recipe[key])
    if optimizer:
        yield "optimizer", f"{optimizer.get('name')}, lr {optimizer.get('lr')}"
    cost = summary["cost"]
    yield "training", f"{cost['train_steps']:,} steps, {cost['samples']:,} samples"
    yield "weights at the start", f"SHA-256 {run.weights.sha256 or UNKNOWN}"
    yield "split", f"SHA-256 {run.split_manifest_sha256 or UNKNOWN}"


def _limits(record: Record, summary: Mapping[str, Any]) -> Iterator[str]:
    run = record.run
    yield "One run with one seed: its scores have no interval."
    if len(record.scenarios) > 1:
        yield (
            "The network has one output for every class of all tasks. Task-incremental scores "
            "are of choosing among those of the image's own task, which must be known."
        )
    if run.independent:
        yield (
            "Every task started from the pretrained weights: these are the weights of the last "
            "task alone, and scores are means over a network for each task."
        )
    if run.train_logits == "task":
        yield (
            "In training, an image was compared with the classes of its own task alone, so that "
            "choosing among all classes was not trained for."
        )
    for name in summary["inactive"]:
        yield f"The method {_plain(name)} had no effect in this run."
    for name in summary["ineffective"]:
        yield f"The method {_plain(name)} could do next to nothing in this run."
    if run.test_on == "validation":
        yield "It was measured on images held out of training, not on the test images."
    yield (
        "It was tested on the images of this stream only, and inherits whatever is biased in "
        "them and in what it was pretrained on."
    )
