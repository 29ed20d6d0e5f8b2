"""``clbench board``: a folder of submissions → a static site."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from clbench.board.board_page import write_board
from clbench.board.boards import VERDICTS, Board, boards_of, same_but_order_of
from clbench.board.checked import FILE, data_here, keep_verdicts, kept_verdicts
from clbench.board.orders_page import orders_name, write_orders
from clbench.board.pages import put_file, site_style
from clbench.board.site_pages import places_of, write_index, write_submission
from clbench.board.taking import Taken, take_in
from clbench.board.workers import each
from clbench.errors import ClbenchError
from clbench.files.disk import SIDE, writing_to
from clbench.files.lock import NAME, alone
from clbench.submission.submission import SUFFIX
from clbench.submission.verdicts import RowVerdict
from clbench.text.texts import cut_line

#: Submissions in a folder, at most.
MOST = 5_000
#: What a site has, besides the page to begin with, its style and :data:`FILE`.
_OURS = (
    "boards/*.html",
    "submissions/*/index.html",
    "submissions/*/*/index.html",
    "submissions/*/*/record.jsonl",
)


@final
@dataclass(frozen=True)
class Built:
    """What was made of a folder.

    Attributes:
        index: the page to begin with.
        submissions: those on the site.
        boards: how many there are.
        problems: a line for each file that is not on it.
        note: why nothing of an earlier build counts; empty if that is as it should be.
        checked: submissions that were checked anew.
    """

    index: Path
    submissions: tuple[Taken, ...]
    boards: int
    problems: tuple[str, ...]
    note: str
    checked: int

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows by verdict."""
        found = Counter(row.verdict for one in self.submissions for row in one.rows)
        return {word: found[word] for word in VERDICTS}


def build_board(folder: Path, site: Path, heading: str, data_dir: Path = Path("data")) -> Built:
    """Make the site of all submissions in a folder.

    Args:
        folder: with files ``*.clbench.zip``, and verdict files beside them.
        site: where to; what an earlier build left there is replaced.
        heading: of the page to begin with.
        data_dir: where data sets lie: what is there is compared with what was submitted.

    Raises:
        ClbenchError: if there is no submission that can be read, or the site is a folder of
            something else, or cannot be written.
    """
    files = _files(folder)
    _refuse_foreign(site)
    data = data_here(data_dir)
    with writing_to(site, "run the same command again"), _own(site):
        kept, note = kept_verdicts(site, data)
        if not (site / FILE).exists():
            keep_verdicts(site, {}, data)  # the mark of a site, should this build be cut off
        found, problems = _take_all(files, site, kept, data_dir)
        if not found:
            raise ClbenchError(cut_line(f"{folder}: no submission can be read: {problems[0]}"))
        boards = boards_of(row for one in found for row in one.rows)
        written = _write(site, heading, found, boards, problems)
        _remove_older(site, written | set(_run_files(site, found)))
        keep_verdicts(site, {one.sha256: one.own for one in found}, data)
    fresh = sum(one.sha256 not in kept for one in found)
    index = site / "index.html"
    return Built(index, tuple(found), len(boards), tuple(problems), note, fresh)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ClbenchError(f"there is no folder {folder}")
    found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    if not found:
        raise ClbenchError(
            f"{folder} has no submission: no file of a name that ends in {SUFFIX}; clbench pack "
            "makes them"
        )
    if len(found) > MOST:
        raise ClbenchError(f"{folder} has {len(found):,} submissions: {MOST:,} are read at most")
    return found


@contextmanager
def _own(site: Path) -> Iterator[None]:
    """The site's folder, in which no other build is at work."""
    site.mkdir(parents=True, exist_ok=True)
    with alone(site):
        yield


def _refuse_foreign(site: Path) -> None:
    """Refuse a folder of something else, in which pages would be removed and written over."""
    there = {path.name for path in site.iterdir()} if site.is_dir() else set()
    if there - {NAME, SIDE.format(FILE)} and not (site / FILE).is_file():
        raise ClbenchError(
            f"{site} is not empty, and no site of boards, as it has no {FILE}: choose another "
            "--output"
        )


def _take_all(
    files: Sequence[Path],
    site: Path,
    kept: Mapping[str, Sequence[RowVerdict]],
    data_dir: Path,
) -> tuple[list[Taken], list[str]]:
    """What can be read, and a line for each file that cannot, or is another one again."""
    problems: list[str] = []
    found: dict[str, Taken] = {}
    for one in each(take_in, [(path, site, kept, data_dir) for path in files]):
        if isinstance(one, str):
            problems.append(one)
        elif one.sha256 in found:
            first = found[one.sha256].file
            problems.append(cut_line(f"{one.file} is the same as {first}, byte by byte."))
        else:
            found[one.sha256] = one
    return list(found.values()), problems


def _write(
    site: Path,
    heading: str,
    found: Sequence[Taken],
    boards: Sequence[Board],
    problems: Sequence[str],
) -> set[Path]:
    """Write all pages but those of runs; returns their paths."""
    put_file(site / "style.css", site_style().encode())
    families = {orders_name(same): same for same in same_but_order_of(boards)}
    orders = {board.key: name for name, same in families.items() for board in same}
    near: dict[Any, list[Board]] = defaultdict(list)
    for board in boards:
        near[board.key.stream, board.key.backbone].append(board)
    work = [
        (site, board, near[board.key.stream, board.key.backbone], orders.get(board.key, ""))
        for board in boards
    ]
    firsts = each(write_board, work)
    each(write_orders, [(site, same) for same in families.values()])
    places = places_of(boards)
    told = [
        (name, f"{same[0].key.whole_title}: {len(same)} class orders")
        for name, same in families.items()
    ]
    names = [*(board.key.name for board in boards), *families]
    pages = {site / "boards" / f"{name}.html" for name in names}
    pages |= {write_submission(site, one, places) for one in found}
    # Last, so that a build that is cut off leaves no page that leads nowhere.
    write_index(site, heading, found, list(zip(boards, firsts, strict=True)), told, problems)
    return pages


def _run_files(site: Path, found: Sequence[Taken]) -> Iterator[Path]:
    for one in found:
        for page in (page for row in one.rows for page in row.pages):
            yield site / page / "index.html"
            yield site / page / "record.jsonl"


def _remove_older(site: Path, written: set[Path]) -> None:
    """Remove the pages of an earlier build that this one does not have."""
    for pattern in _OURS:
        for path in site.glob(pattern):
            if path not in written:
                path.unlink()
    for pattern in ("submissions/*/*", "submissions/*"):
        for path in site.glob(pattern):
            with suppress(OSError):  # it has something
                path.rmdir()
