"""Ids of repositories of the Hugging Face hub, as recipes and commands write them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: What ``model.weights`` begins with where it means a repository.
PREFIX: Final = "hf-hub:"
#: Characters of a user's name and of a repository's at most, as the hub has it.
LONGEST: Final = 96
_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REVISION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}")
#: A commit in full: what it names never changes.
COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class HubId(NamedTuple):
    """A repository, and which state of it.

    Attributes:
        repository: ``user/name``.
        revision: a branch, a tag or a commit; None: the main branch.
    """

    repository: str
    revision: str | None

    def at(self, commit: str) -> str:
        """As ``model.weights`` has it, at a commit."""
        return f"{PREFIX}{self.repository}@{commit}"


def is_hub_id(weights: str) -> bool:
    """Whether ``model.weights`` means a repository of the hub."""
    return weights.startswith(PREFIX)


def hub_id(weights: str) -> HubId:
    """What ``hf-hub:user/name[@revision]`` names, of what :func:`wrong_hub_id` has nothing against.

    >>> hub_id("hf-hub:timm/resnet18.a1_in1k@v1")
    HubId(repository='timm/resnet18.a1_in1k', revision='v1')
    """
    repository, _, revision = weights.removeprefix(PREFIX).partition("@")
    return HubId(repository, revision or None)


def wrong_hub_id(weights: str) -> str:
    """Why a text that begins with ``hf-hub:`` names no repository, or nothing.

    >>> wrong_hub_id("hf-hub:me/digits"), wrong_hub_id("hf-hub:digits")
    ('', 'names no repository as user/name')
    """
    repository, at, revision = weights.removeprefix(PREFIX).partition("@")
    if wrong := wrong_repository(repository):
        return wrong
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith("/")):
        return "names no branch, tag or commit after the @"
    return ""


def wrong_repository(repository: str) -> str:
    """Why a text is no ``user/name``, or nothing.

    >>> wrong_repository("me/my digits")
    "has 'my digits', and names have letters, digits, and - _ . between them"
    """
    parts = repository.split("/")
    if len(parts) != 2 or not all(parts):
        return "names no repository as user/name"
    for part in parts:
        if not _PART.fullmatch(part) or ".." in part or "--" in part:
            return f"has {part[:LONGEST]!r}, and names have letters, digits, and - _ . between them"
        if len(part) > LONGEST:
            return f"has a name of {len(part)} characters, more than {LONGEST}"
    if repository.endswith(".git"):
        return "ends with .git, which no repository there does"
    return ""
