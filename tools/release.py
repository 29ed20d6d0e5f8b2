"""Whether this checkout can be released: one version everywhere, dated, committed.

    python tools/release.py

Exit status 1, with a line for whatever is wrong. `make release-check` builds the files after it.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
UNRELEASED = "unreleased"
PARTS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def disagreements(root: Path) -> list[str]:
    """What version, CHANGELOG.md and CITATION.cff say against each other, at any time."""
    version = _version(root)
    cited = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    changes = (root / "CHANGELOG.md").read_text("utf-8")
    heads = re.findall(r"^## (.*)$", changes, re.MULTILINE)
    told = [
        re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((\d{4}-\d{2}-\d{2}|unreleased)\)", h) for h in heads
    ]
    wrong = [
        f"CHANGELOG.md: `## {head}` should be `## X.Y.Z (YYYY-MM-DD)`, or (unreleased)"
        for head, match in zip(heads, told, strict=True)
        if match is None
    ]
    releases = [(tuple(map(int, m.groups()[:3])), m[4]) for m in told if m]
    if sorted({number for number, _ in releases}, reverse=True) != [n for n, _ in releases]:
        wrong.append("CHANGELOG.md: releases should stand once each, the newest first")
    if any(date == UNRELEASED for _, date in releases[1:]):
        wrong.append("CHANGELOG.md: only the first release can be unreleased")
    for part in re.findall(r"^### (.*)$", changes, re.MULTILINE):
        if part not in PARTS:
            wrong.append(f"CHANGELOG.md: `### {part}` is none of {', '.join(PARTS)}")
    newest = ".".join(map(str, releases[0][0])) if releases else None
    if newest != version:
        wrong.append(f"CHANGELOG.md begins with {newest}, clbench/__init__.py says {version}")
    if cited["version"] != version:
        wrong.append(f"CITATION.cff says {cited['version']}, clbench/__init__.py says {version}")
    date = str(cited.get("date-released", UNRELEASED))
    if releases and date != releases[0][1]:
        wrong.append(f"CITATION.cff: date-released is {date}, CHANGELOG.md has {releases[0][1]}")
    return wrong


def unready(root: Path, today: datetime.date) -> list[str]:
    """What stands in the way of a release today, besides."""
    head = re.search(r"^## .*\((.*)\)$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    wrong = []
    if head is None or head[1] == UNRELEASED:
        wrong.append("CHANGELOG.md: the newest release has no date")
    elif head[1] > today.isoformat():
        wrong.append(f"CHANGELOG.md: {head[1]} is to come")
    git = ["git", "-C", str(root)]
    if changed := subprocess.check_output([*git, "status", "--porcelain"], text=True).splitlines():
        wrong.append(f"not committed: {changed[0][3:]}, {len(changed)} in all")
    tag = f"v{_version(root)}"
    if subprocess.check_output([*git, "tag", "--list", tag], text=True).strip():
        wrong.append(f"there is a tag {tag}: raise the version")
    return wrong


def _version(root: Path) -> str:
    text = (root / "clbench" / "__init__.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(.*)"$', text, re.MULTILINE)
    return version


def main() -> int:
    """Say what is wrong; the exit status."""
    wrong = [*disagreements(ROOT), *unready(ROOT, datetime.date.today())]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
