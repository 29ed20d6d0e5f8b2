"""``submission.json``: who submits what, and the SHA-256 of everything else in the file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from clbench.errors import JOINERS, ClbenchError
from clbench.record import reading

#: Of submissions that are written; later ones are refused.
FORMAT = 1
#: Of records and what lies beside them, unless another one is named.
LICENSE = "CC-BY-4.0"
#: The member itself.
NAME = "submission.json"
_LINK = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[!#$%&()*+,./0-9:;=?@A-Z\[\]_a-z~-]*)?")


def _line(text: str) -> str:
    if text != text.strip():
        raise ValueError("starts or ends with a space")
    if odd := [c for c in text if not (c.isprintable() or c in JOINERS)]:
        raise ValueError(f"holds {odd[0]!r}, which cannot be printed")
    return text


def _address(text: str) -> str:
    if not _LINK.fullmatch(text):
        raise ValueError("is no web address: it should begin with https://")
    return text


Line = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_line)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@final
class About(BaseModel):
    """What ``submission.json`` says.

    Attributes:
        format: version of the format.
        clbench: version that packed it.
        title: of the submission.
        authors: who answer for it.
        contact: how to reach them, in their words; None: not said.
        license: of the records, as SPDX names it or in words.
        link: to code or a paper; None: none.
        taken_out: a line for each kind of thing that packing took out of the runs' files.
        records_sha256: of each run's ``record.jsonl`` before anything was taken out of it.
        sha256: of every other member, by name.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    format: Literal[1] = 1
    clbench: Line
    title: Line
    authors: Annotated[list[Line], Field(min_length=1, max_length=200)]
    contact: Line | None = None
    license: Line = LICENSE
    link: Annotated[str, StringConstraints(max_length=500), AfterValidator(_address)] | None = None
    taken_out: Annotated[list[Line], Field(max_length=100)] = []
    records_sha256: Annotated[list[Sha256], Field(min_length=1, max_length=10_000)]
    sha256: Annotated[dict[str, Sha256], Field(max_length=100_000)]


def read_about(content: bytes) -> About:
    """What a ``submission.json`` says.

    Raises:
        ClbenchError: if it is none, or of a later format.
    """
    values = reading.json_in(content, NAME, strict=True)
    refuse_later(values, NAME)
    return reading.fit(About, values, NAME)


def refuse_later(values: Any, name: str) -> None:
    """Refuse what only a later clbench can read.

    Raises:
        ClbenchError: naming the format.
    """
    told = values.get("format") if isinstance(values, dict) else None
    if type(told) is int and told > FORMAT:
        raise ClbenchError(
            f"{name} is of format {told}, and this clbench reads {FORMAT}: update it"
        )
