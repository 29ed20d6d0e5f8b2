"""Files that are no submission: each is refused in one line, in time and within memory."""

import gzip
import json
import os
import time
import tracemalloc
import zipfile

import pytest
import submitted
from submitted import central, of_run, patched, quiet, sealed, zip_of

from clbench.cli.commands import command
from clbench.errors import ClbenchError
from clbench.submission import opened

#: Seconds and bytes that any of these files may take.
SECONDS, MEMORY = 2.0, 200e6


def also(name, content):
    """The same with one member more, or another."""
    return lambda members: sealed(dict(sorted((members | {name: content}).items())))


def told(**changes):
    return lambda members: sealed(members, **changes)


def without(name):
    return lambda members: sealed({k: v for k, v in members.items() if k != name})


def event(place, key, value):
    def change(events):
        events[place][key] = value

    return lambda members: sealed(of_run(members, 0, change, recomputed=False))


def raw(name, content):
    """A member replaced by bytes."""
    return lambda members: sealed(members | {name: content})


def text(name, old, new):
    def make(members):
        assert old in members[name]
        return sealed(members | {name: members[name].replace(old, new, 1)})

    return make


def hashes(change):
    def make(members):
        values = json.loads(members["submission.json"])
        change(values["sha256"])
        return submitted.archive.zipped(members | {"submission.json": json.dumps(values).encode()})

    return make


def bytes_of(change):
    return lambda members: change(sealed(members))


def at(number, offset, form, value):
    """A number in the list at the end written over."""
    return bytes_of(lambda c: patched(c, central(c, number) + offset, form, value))


def plain(**about):
    return lambda members: zip_of(members, **about)


def named(name):
    """A member of a name that the packer would refuse, by a plain zip writer."""
    return lambda members: zip_of(members | {name: b"x"})


def bomb(members):
    """20 MB in 20 kB, whose true size is declared."""
    return zip_of(members | {"runs/0/summary.json": bytes(20 << 20)})


def small_bomb(_):
    """64 MB that are declared to be 15."""
    whole = zip_of({"submission.json": bytes(20 << 20)})
    for place in (22, central(whole) + 24):
        whole = patched(whole, place, "<I", 15 << 20)
    return whole


def many(count):
    return lambda _: zip_of({f"runs/{n}/record.jsonl": b"" for n in range(count)})


def overlapping(members):
    """The second member of the list is the first once more."""
    whole = sealed(members)
    return patched(whole, central(whole, 1) + 42, "<I", 0)


def nested_yaml(depth):
    return "".join(f"{' ' * n}a:\n" for n in range(depth)) + " " * depth + "b: 1\n"


ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
RECORD, SUMMARY, ABOUT = "runs/0/record.jsonl", "runs/0/summary.json", "submission.json"
MACHINE, CONFIG = "runs/0/environment.json", "runs/0/config.yaml"
#: By what is wrong: how it is made of the honest members, and what the one line must say.
FORGED = {
    "empty": (lambda _: b"", "no zip"),
    "a text": (lambda _: b"hello, I am a submission" * 10, "no zip"),
    "gzip": (lambda m: gzip.compress(sealed(m)), "no zip"),
    "cut in the middle": (bytes_of(lambda c: c[: len(c) // 2]), "cut"),
    "cut at the end": (bytes_of(lambda c: c[:-1]), "cut"),
    "the end alone": (bytes_of(lambda c: c[-22:]), "no zip"),
    "bytes at the end": (bytes_of(lambda c: c + b"x"), "added to its end"),
    "bytes before": (bytes_of(lambda c: b"PK\3\4" + c), "not where it should be"),
    "another zip behind": (bytes_of(lambda c: c + c), "not where it should be"),
    "a comment": (bytes_of(lambda c: patched(c, len(c) - 2, "<H", 3) + b"abc"), "added"),
    "comment of a member": (plain(comment=b"x"), "another program"),
    "extra field": (plain(extra=b"\x99\x99\x01\x00x"), "another program"),
    "zipped again": (plain(date=(2026, 1, 1, 0, 0, 0)), "another program"),
    "stored": (plain(how=zipfile.ZIP_STORED), "packed in another way"),
    "lzma": (plain(how=zipfile.ZIP_LZMA), "another"),
    "encrypted": (at(0, 8, "<H", 1), "encrypted"),
    "data descriptors": (at(0, 8, "<H", 8), "packed in another way"),
    "a link": (plain(mode=0o120777), "a link or a folder"),
    "a folder": (plain(mode=0o040755), "a link or a folder"),
    "more on another disk": (at(0, 34, "<H", 1), "not where it should be"),
    "overlapping members": (overlapping, "not where it should be"),
    "two sizes": (at(1, 24, "<I", 5), "two things"),
    "two checksums": (at(1, 16, "<I", 5), "two things"),
    "two names": (bytes_of(lambda c: c.replace(b"config.yaml", b"config.yamL", 1)), "two things"),
    "wrong checksum": (
        bytes_of(lambda c: patched(patched(c, 14, "<I", 7), central(c) + 16, "<I", 7)),
        "checksum",
    ),
    "damaged bytes": (bytes_of(lambda c: c[:60] + b"\xff\xff\xff" + c[63:]), ABOUT),
    "bomb": (bomb, "MB, more than"),
    "bomb of a lie": (small_bomb, "bytes that are declared"),
    "13,000 members": (many(13_000), "more than a submission may hold"),
    "up and out": (named("../evil.json"), "dot"),
    "up within": (named("runs/0/../../evil.json"), "dot"),
    "absolute": (named("/etc/evil.json"), "empty"),
    "drive": (named("C:/evil.json"), "character"),
    "backslash": (named("runs\\0\\summary.json"), "one folder"),
    "device of Windows": (named("plugins/con.py"), "device"),
    "trailing dot": (named("plugins/a.py."), "dot"),
    "trailing space": (named("plugins/a.py "), "space"),
    "control character": (named("plugins/a\x07.py"), "control"),
    "not ASCII": (named("plugins/ａ.py"), "another way"),
    "look-alike": (named("runs/0/summаry.json"), "another way"),
    "Latin-1": (bytes_of(lambda c: c.replace(b"config.yaml", b"config.yam\xe9")), "ASCII"),
    "long name": (named("plugins/" + "a" * 300 + ".py"), "too long"),
    "deep name": (named("plugins/" + "a/" * 50 + "b.py"), "too many"),
    "case doubles": (
        lambda m: zip_of(m | {"plugins/a.py": b"", "plugins/A.py": b""}),
        "one name on some systems",
    ),
    "file and folder": (
        lambda m: zip_of(m | {"plugins/a.py": b"", "plugins/a.py/b.py": b""}),
        "the folder of",
    ),
    "foreign member": (also("runs/0/model.safetensors", b"x"), "no place"),
    "foreign at the top": (also("README.md", b"x"), "no place"),
    "code in a run": (also("runs/0/load_model.py", b"x"), "no place"),
    "leading zero": (also("runs/00/record.jsonl", b"x"), "no place"),
    "no submission.json": (
        lambda m: zip_of({k: v for k, v in m.items() if k != ABOUT}),
        "has no submission.json",
    ),
    "forged hash": (hashes(lambda s: s.update({RECORD: "0" * 64})), "another SHA-256"),
    "not listed": (hashes(lambda s: s.pop(SUMMARY)), "not in the list"),
    "listed alone": (hashes(lambda s: s.update({"plugins/a.py": "0" * 64})), "not in the file"),
    "hash of no length": (hashes(lambda s: s.update({SUMMARY: "0"})), "sha256"),
    "later format": (told(format=2), "of format 2"),
    "format of text": (told(format="1"), "format"),
    "unknown key": (told(verdict="verified"), "verdict"),
    "no authors": (told(authors=[]), "authors"),
    "title of lines": (told(title="a\nb"), "printed"),
    "title turned round": (told(title="a\u202eb"), "printed"),
    "title without width": (told(title="a\u200bb"), "printed"),
    "title of a megabyte": (told(title="x" * 1_000_000), "title"),
    "link of a script": (told(link="javascript:alert(1)"), "web address"),
    "link with quotes": (told(link='https://x.org/"onclick="'), "web address"),
    "link of a look-alike": (told(link="https://ex\u0430mple.org/"), "web address"),
    "fewer hashes of records": (told(records_sha256=["0" * 64]), "runs"),
    "run missing": (without(RECORD), "has no record.jsonl"),
    "summary is a zip": (lambda m: raw(SUMMARY, zip_of({"a": b"x"}))(m), "UTF-8"),
    "summary is a list": (raw(SUMMARY, b"[1]"), "no object"),
    "summary of NaN": (raw(SUMMARY, b'{"a": NaN}'), "no number"),
    "summary twice": (raw(SUMMARY, b'{"a": 1, "a": 2}'), "given twice"),
    "summary of 100,000 levels": (raw(SUMMARY, b"[" * 100_000), "nested"),
    "summary of 60 levels": (raw(SUMMARY, b'{"a":' * 60 + b"1" + b"}" * 60), "nested"),
    "a number of 5,000 digits": (raw(SUMMARY, b'{"a": ' + b"9" * 5000 + b"}"), "JSON"),
    "half a character": (raw(SUMMARY, b'{"a": "\\ud800"}'), "half"),
    "UTF-16": (raw(SUMMARY, '{"a": 1}'.encode("utf-16")), "UTF-8"),
    "6 million values": (raw(SUMMARY, b'{"a": [' + b"1," * 6_000_000 + b"1]}"), "values"),
    "a million points": (
        text(RECORD, b'"curve": [', b'"curve": [' + b"{}," * 1_000_000),
        "objects",
    ),
    "environment of numbers": (raw(MACHINE, b'{"packages": {"torch": 2}}'), "packages.torch"),
    "config of aliases": (raw(CONFIG, ALIASES.encode()), "alias"),
    "config of a tag": (raw(CONFIG, b"a: !!python/object/apply:os.system [ls]"), "tag"),
    "config of 200 levels": (raw(CONFIG, nested_yaml(200).encode()), "nested"),
    "config twice": (raw(CONFIG, b"seed: 1\nseed: 2\n"), "given twice"),
    "config is a list": (raw(CONFIG, b"- 1\n"), "no recipe"),
    "config of 2 MB": (raw(CONFIG, b"a: " + b"x" * (2 << 20)), "no recipe"),
    "recipe of aliases": (event(0, "recipe", ALIASES), "alias"),
    "recipe of a tag": (event(0, "recipe", "!!python/name:os.system"), "tag"),
    "record of another event": (event(0, "event", "walk"), "damaged"),
    "record of NaN": (text(RECORD, b'"seconds": ', b'"seconds": NaN, "x": '), "no number"),
    "record of a key twice": (text(RECORD, b'"seed": 0', b'"seed": 0, "seed": 1'), "given twice"),
    "record of a later version": (event(0, "version", 99), "version 99"),
    "record without an end": (
        lambda m: sealed(m | {RECORD: m[RECORD][: m[RECORD].rindex(b'{"event": "end"')]}),
        "not finished",
    ),
    "record cut in its last line": (lambda m: sealed(m | {RECORD: m[RECORD][:-8]}), "not finished"),
    "record without a newline": (lambda m: sealed(m | {RECORD: m[RECORD][:-1]}), "not finished"),
    "a try of tuning": (event(0, "test_on", "validation"), "try of tuning"),
    "accuracy of 1.5": (event(2, "task_incremental", [1.5]), "task_incremental"),
    "seconds below zero": (event(2, "seconds", -1.0), "seconds"),
    "task of a million": (event(2, "task", 1_000_000), "task"),
    "sweep of nothing": (also("runs/0/sweep-x.json", b"{}"), "rows"),
    "manifest of no run": (also(f"manifests/{'a' * 64}.json", b"{}"), "of no run"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_file_is_refused_in_one_line(kind, members, tmp_path):
    make, says = FORGED[kind]
    path = tmp_path / "forged.clbench.zip"
    path.write_bytes(make(members))
    began = time.process_time()
    with quiet(), pytest.raises(ClbenchError) as caught:
        opened(path)
    assert time.process_time() - began < SECONDS
    line = str(caught.value)
    assert says in line
    assert line.startswith("forged.clbench.zip is no submission: ")
    assert "\n" not in line
    assert len(line) < 700
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["bomb", "bomb of a lie", "13,000 members", "6 million values"])
def test_what_is_made_to_fill_memory_does_not(kind, members, tmp_path):
    path = tmp_path / "forged.clbench.zip"
    path.write_bytes(FORGED[kind][0](members))
    tracemalloc.start()
    with pytest.raises(ClbenchError):
        opened(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY


def test_there_are_forged_files_enough():
    assert len(FORGED) >= 40


def test_a_file_that_is_none_is_refused(honest, tmp_path):
    os.mkfifo(tmp_path / "pipe.clbench.zip")
    (tmp_path / "link.clbench.zip").symlink_to(honest)
    for path, says in (
        (tmp_path / "pipe.clbench.zip", "a pipe"),
        (tmp_path / "link.clbench.zip", "a symbolic link"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(ClbenchError, match=says):
            opened(path)
    with pytest.raises(ClbenchError, match="cannot be read"):
        opened(tmp_path / "absent.clbench.zip")


def test_the_command_refuses_too(members, tmp_path):
    path = tmp_path / "forged.clbench.zip"
    path.write_bytes(sealed(members)[:-1])
    with pytest.raises(ClbenchError, match="is no submission"):
        command(["verify", str(path)])


def test_an_honest_file_is_read(honest):
    with quiet():
        found = opened(honest)
    assert [run.seed for run in found.runs] == [0, 1, 0, 1]
    assert (found.title, found.authors, found.license) == ("Honest", ("A. Author",), "CC-BY-4.0")
