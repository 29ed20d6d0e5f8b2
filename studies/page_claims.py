"""Claims of a page: what is compared, whether it is a test, and the verdict on it.

A claim says beforehand what is compared with what and by which score; the rule is that of
:mod:`clbench.report.verdicts`, and what makes a comparison none is that of
:mod:`clbench.report.confounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from clbench.record.record import Scenario
from clbench.report.confounds import Confound
from clbench.report.differences import p_value
from clbench.report.group import Group
from clbench.report.metrics import METRICS, SCENARIO_TITLES
from clbench.report.section import Section
from clbench.report.statistics import Difference
from clbench.report.verdicts import RULE, ClaimKind, Question, Verdict, judge

#: Metrics of the record that no report has, with their names: not in percent.
MORE = {"distance": "distance to θ_*", "loss": "training loss"}
#: The smallest difference of a score in % that counts, where a claim says no other.
POINT = 0.01
COUNTS = (
    " Of a score in %, what is below one point for certain is too small to count. (Set for all pages "
    "alike when some of them had been measured; before, a difference next to nothing was too noisy "
    "to say, however many the seeds.) Its p is of the test that decides: against 0 where it may hold, "
    "against the point where it may not."
)
#: In place of a stream: all of the page.
ALL = "all streams"
HEADS = (
    "claim",
    "compared",
    "number",
    "n",
    "could see",
    "p (Holm)",
    "would take",
    "verdict",
)


@dataclass(frozen=True)
class Claim:
    """A paper's claim that one method beats another.

    Attributes:
        text: the claim.
        better, worse: names of methods in the suite. Of several that it is claimed to beat, all
            count: shown is the one that comes nearest, and the test is corrected for so many. It is
            a test if one of them could do something: of strengths, some may be too weak.
        metric: in which the first is claimed to be higher; besides the report's, ``distance`` (to
            θ_*, after the last task) and ``loss`` (of training, at the end of each task).
        sign: -1 if it is claimed to be lower.
        scenario: of the accuracies; the study's by default.
        section: name of the stream, as in the study's ``streams``; may be left out if there is
            but one. :data:`ALL`: each seed of each stream that has one of the methods is a pair.
        part: differences that the claim is about, or that it allows for, besides the method: a key
            as ``optimizer.lr``, the start of one as ``optimizer``, or another part of
            :class:`clbench.report.confounds.Confound`.
        kind: ``above``, or that the first is ``no_less`` or ``equal``, but for the margin.
        margin: in the metric's own unit (0.01 is one point); of ``above`` it is the smallest
            difference that counts: what is below it for certain is not reproduced. If none is
            given, :data:`POINT` of what is in %, and else 0.
    """

    text: str
    better: str
    worse: str | tuple[str, ...]
    metric: str = "overall_performance"
    sign: int = 1
    scenario: Scenario | None = None
    section: str = ""
    part: str | tuple[str, ...] = ()
    kind: ClaimKind = "above"
    margin: float | None = None

    @property
    def counts(self) -> float:
        """The margin."""
        if self.margin is not None:
            return self.margin
        return POINT if self.kind == "above" and self.percent == 100 else 0.0

    @property
    def parts(self) -> tuple[str, ...]:
        """The differences that are claimed."""
        return (self.part,) if isinstance(self.part, str) else self.part

    @property
    def rivals(self) -> tuple[str, ...]:
        """The methods that it is claimed to beat."""
        return (self.worse,) if isinstance(self.worse, str) else self.worse

    @property
    def percent(self) -> float:
        """The factor of the numbers shown."""
        unit = "number" if self.metric in MORE else METRICS[self.metric].unit
        return 100 if unit in ("accuracy", "change") else 1


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        claim: what was claimed.
        compared: what was compared, in words.
        runs: seeds that either method was to have, so that lost ones are seen.
        besides: what differs besides the methods.
        verdict: what the runs say.
    """

    claim: Claim
    compared: str
    runs: int
    besides: tuple[Confound, ...]
    verdict: Verdict


def judge_claims(
    claims: Sequence[Claim], sections: Mapping[str, Section], scenario: Scenario, looks: int = 1
) -> list[Judged]:
    """The verdicts on all claims of a page, corrected for being so many.

    Args:
        claims: of the page.
        sections: the streams by name.
        scenario: of claims that name none.
        looks: see :func:`clbench.report.verdicts.judge`.

    Raises:
        ValueError: if a claim names no stream, or one that is not there.
    """
    asked = [_ask(claim, sections, claim.scenario or scenario) for claim in claims]
    verdicts = judge([question for question, *_ in asked], looks)
    return [
        Judged(claim, compared, runs, besides, verdict)
        for claim, (_, compared, runs, besides), verdict in zip(
            claims, asked, verdicts, strict=True
        )
    ]


def _ask(
    claim: Claim, sections: Mapping[str, Section], scenario: Scenario
) -> tuple[Question, str, int, tuple[Confound, ...]]:
    chosen = _sections_of(claim, sections)
    named = {claim.better, *claim.rivals}
    if held := [s for s in chosen if named & {t for g in s.groups for t in (g.name, g.label)}]:
        chosen = held  # a suite may have further streams
    by_class = scenario == "class_incremental" and claim.metric not in (*MORE, "retention")
    title = chosen[0].scenarios.get(scenario, SCENARIO_TITLES[scenario])
    told = _score(claim, title, claim.section if len(sections) > 1 else "")
    gaps, besides, unfair = dict[str, list[float]](), dict[Confound, None](), list[str]()
    runs_of = dict[str, int]()
    for section in chosen:
        groups = {text: g for g in section.groups for text in (g.name, g.label)}
        lost = [name for name in (claim.better, *claim.rivals) if name not in groups]
        if lost:
            where = f" on {section.title}" if len(chosen) > 1 else ""
            question = Question((), unfair=(f"no runs of {' and '.join(lost)}{where}",))
            return question, f"{_minus(claim, claim.rivals[0])}, {told}", 0, ()
        ours = groups[claim.better]
        unfair += _idle(ours, by_class)
        idle = [_idle(groups[name], by_class) for name in claim.rivals]
        if all(idle):  # of several strengths, some may be too weak
            unfair += [text for texts in idle for text in texts]
        for name in claim.rivals:
            theirs = groups[name]
            a, b = (scores(group, claim.metric, scenario) for group in (ours, theirs))
            both = sorted(a.keys() & b.keys())
            gaps.setdefault(name, []).extend(claim.sign * (a[seed] - b[seed]) for seed in both)
            seeds = {run.seed for group in (ours, theirs) for run in group.runs}
            runs_of[name] = runs_of.get(name, 0) + len(seeds)
            found = section.confounds(ours, theirs)
            besides |= dict.fromkeys(found)
            unfair += [c.words for c in found if not c.within(claim.parts)]
            unfair += [] if both else [f"no seed for which {claim.better} and {name} have it"]
    nearest, *others = sorted(gaps, key=lambda name: fmean(gaps[name] or [0.0]))
    runs = runs_of[nearest]
    best = f" (of {len(gaps)} the nearest)" if others else ""
    question = Question(
        gaps[nearest],
        claim.kind,
        claim.counts,
        tuple(dict.fromkeys(unfair)),
        tuple(gaps[name] for name in others),
    )
    return question, f"{_minus(claim, nearest)}{best}, {told}", runs, tuple(besides)


def _minus(claim: Claim, rival: str) -> str:
    """The difference that the number is."""
    ours, theirs = (claim.better, rival)[:: claim.sign]
    return f"{ours} − {theirs}"


def _score(claim: Claim, scenario: str, stream: str) -> str:
    """The score that the number is of."""
    told = [MORE.get(claim.metric) or METRICS[claim.metric].label]
    if claim.metric not in (*MORE, "retention"):
        told.append(scenario)
    return ", ".join([*told, stream] if stream else told)


def _sections_of(claim: Claim, sections: Mapping[str, Section]) -> list[Section]:
    if claim.section == ALL or (not claim.section and len(sections) == 1):
        return list(sections.values())
    if claim.section not in sections:
        raise ValueError(
            f"the claim {claim.text!r} is about the stream {claim.section!r}; there are "
            + ", ".join(map(repr, sections))
        )
    return [sections[claim.section]]


def without_effect(group: Group, by_class: bool) -> list[str]:
    """Methods that did nothing, or next to nothing, in all of a group's runs."""
    told = []
    for key, text in (("inactive", "had no effect"), ("ineffective", "could do next to nothing")):
        idle = [set(run.summary.get(key) or ()) for run in group.finished]
        names = sorted(set.intersection(*idle)) if idle else []
        if key == "ineffective" and not by_class:
            names = [n for n in names if n not in group.runs[0].having("class_incremental")]
        told += [f"{name} {text}" for name in names]
    return told


def _idle(group: Group, by_class: bool) -> list[str]:
    return [f"{told} in {group.label}" for told in without_effect(group, by_class)]


def scores(group: Group, metric: str, scenario: Scenario) -> dict[int, float]:
    """A metric of each seed's finished run."""
    if metric == "distance":
        return {r.seed: float(r.record.tasks[-1].distance["pretrained"]) for r in group.finished}
    if metric == "loss":
        return {r.seed: fmean(t.loss for t in r.record.tasks) for r in group.finished}
    return group.by_seed(metric, scenario)


def claims_part(judged: Sequence[Judged]) -> str:
    """The part of a page that has the claims, as Markdown."""
    lines = [row(HEADS), row(["---"] * len(HEADS))]
    for one in judged:
        n = one.verdict.gap.n if one.verdict.gap else 0
        lines.append(
            row(
                [
                    one.claim.text,
                    one.compared,
                    *verdict_cells(one.verdict, one.claim.percent, n, one.runs),
                ]
            )
        )
    parts = [f"## Claims\n\n{RULE}{COUNTS}{_kinds(judged)}", "\n".join(lines)]
    return "\n\n".join([*parts, *_besides(judged)])


def verdict_cells(verdict: Verdict, percent: float, n: int, runs: int = 0) -> list[str]:
    """The cells of a verdict, from the number to the verdict."""
    digits = 3 if percent == 1 else 1
    takes = "–"
    if verdict.outcome == "too noisy to say":
        takes = "over 10,000" if verdict.would_take is None else f"{verdict.would_take:,}"
    return [
        difference_cell(verdict.gap, percent, bold=False, digits=digits),
        f"{n} of {runs}" if runs > n else str(n),
        "–" if verdict.could_see is None else f"{percent * verdict.could_see:.{digits}f}",
        "–" if verdict.p is None else p_value(verdict.p),
        takes,
        verdict.outcome,
    ]


def judge_numbers(
    numbers: Mapping[str, Sequence[float]], percent: float = 1
) -> tuple[dict[str, Verdict], str]:
    """The verdicts of a study that is no suite, and the table of them, as Markdown.

    Args:
        numbers: by claim, a number for each seed, in the claim's favour if positive.
        percent: the factor of the numbers shown.
    """
    verdicts = judge([Question(values) for values in numbers.values()])
    heads = [head for head in HEADS if head != "compared"]
    lines = [row(heads), row(["---"] * len(heads))]
    for (text, values), verdict in zip(numbers.items(), verdicts, strict=True):
        lines.append(row([text, *verdict_cells(verdict, percent, len(values))]))
    return dict(zip(numbers, verdicts, strict=True)), "\n".join(lines)


def _kinds(judged: Sequence[Judged]) -> str:
    """What the claims that are not of the usual kind say."""
    told = []
    for one in judged:
        margin = f"{one.claim.percent * one.claim.counts:g}"
        if one.claim.kind == "no_less":
            told.append(f"*{one.claim.text}*: no less but for {margin}")
        elif one.claim.kind == "equal":
            told.append(f"*{one.claim.text}*: equal within {margin}")
        elif one.claim.margin:  # of its own
            told.append(f"*{one.claim.text}*: by {margin} if it is to count")
    return f" Claims of another kind: {'; '.join(told)}." if told else ""


def _besides(judged: Sequence[Judged]) -> list[str]:
    """The table of what differs besides the methods, if anything does."""
    lines = [row(["claim", "not a test, as", "claimed or allowed for"]), row(["---"] * 3)]
    for one in judged:
        named = [c.words for c in one.besides if c.within(one.claim.parts)]
        if named or one.verdict.unfair:
            told = ["; ".join(one.verdict.unfair) or "–", "; ".join(named) or "–"]
            lines.append(row([one.claim.text, *told]))
    if len(lines) == 2:
        return []
    about = "Read from the recipes and the records; the first method's value stands first."
    return [f"### What differs besides the method\n\n{about}", "\n".join(lines)]


def as_json(one: Judged) -> dict[str, Any]:
    """A claim as ``claims.json`` has it; numbers in the metric's own unit."""
    verdict, gap = one.verdict, one.verdict.gap
    return {
        "claim": one.claim.text,
        "compared": one.compared,
        "difference": None if gap is None else [gap.mean, gap.low, gap.high],
        "n": gap.n if gap else 0,
        "p_holm": verdict.p,
        "could_see": verdict.could_see,
        "would_take": verdict.would_take,
        "verdict": verdict.outcome,
        "not_a_test": list(verdict.unfair),
        "besides": [{"part": c.part, "better": c.ours, "worse": c.theirs} for c in one.besides],
    }


def row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def difference_cell(
    gap: Difference | None, scale: float = 100, bold: bool = True, digits: int = 1
) -> str:
    """A difference with its interval, bold where that excludes zero."""
    if gap is None:
        return "–"
    mean, *ends = (
        None if v is None else f"{scale * v:+.{digits}f}" for v in (gap.mean, gap.low, gap.high)
    )
    if None in ends:
        return str(mean)
    text = f"{mean} [{', '.join(map(str, ends))}]"
    return f"**{text}**" if bold and not gap.within_noise else text
