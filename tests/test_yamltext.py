"""Texts and files of the user's: what is read, and what is refused in one quick line."""

import os
import time

import pytest
import yaml

from clbench.errors import ClbenchError, one_line, shown
from clbench.recipe.yamlfile import find, read
from clbench.text.plain import check_plain
from clbench.text.textfile import home, read_file
from clbench.text.yamltext import DEPTH, NODES, dump, read_text


def brief(value):
    """A test's name: pytest's own are as long as the value."""
    return shown(value)[:40]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("---\n...\n", None),
        ("# nothing", None),
        ("1e-3", 0.001),
        ("-0.0", -0.0),
        ("12", 12),
        ("0o12", 10),
        ("0x1f", 31),
        ("012", "012"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("~", None),
        ("2026-01-01", "2026-01-01"),
        (".inf", float("inf")),
        ("!!str 012", "012"),
        ("!!float 3", 3.0),
        ("%YAML 1.2\n---\na: 1", {"a": 1}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("{<<: [{p: 1}, {p: 2, z: 3}], q: 4}", {"p": 1, "z": 3, "q": 4}),
        ("'<<': 1", {"<<": 1}),
        ("a: &a [1]\nb: *a", {"a": [1], "b": [1]}),
    ],
    ids=brief,
)
def test_what_text_means(text, value):
    found = read_text(text, "x")
    assert found == value
    assert type(found) is type(value)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 99))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, f"more than {NODES:,} values, aliases expanded"),
        (CHAIN, f"nested more than {DEPTH} levels deep"),
        (
            "b0: &b0 {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: *b{n - 1}}}\n" for n in range(1, 99)),
            "deep",
        ),
        ("a: &a [*a]", r"\*a stands within itself"),
        ("a: &a {b: {c: *a}}", r"\*a stands within itself"),
        ("a: *b", "there is no anchor &b"),
        ("a: {<<: 3}", "<< takes a mapping"),
        ("[" * 10_000, "nest"),
        ("{a: " * 10_000, "nest"),
        ("- " * 10_000, "nest"),
        ("\n".join(f"k{n}: 1" for n in range(60_000)), "a mapping of more than 1,000 keys"),
        ("a: " + "9" * 5000, "too large"),
        ("a: -9223372036854775809", "too large"),
        ("a: " + "1" * 5000 + ".5", "too long"),
        ("a: 1e400", "'1e400' is too large"),
        ("a: 1\n---\nb: 2", "line 2: a second document"),
        ("a: 1\na: 2", "line 2: key 'a' is given twice"),
        ("{a: 1, 'a': 2}", "key 'a' is given twice"),
        ("1: x", "key 1 is no text: put it into quotes"),
        ("null: x", "key None is no text"),
        ("[a]: x", r"key \['a'\] is no text"),
        ("a: !!python/object/apply:os.system ['true']", "only plain values are read"),
        ("a: !!python/name:os.system", "only plain values are read"),
        ("a: !!set {x}", "only plain values"),
        ("a: !!binary aGk=", "only plain values"),
        ("a: !!timestamp 2026-01-01", "only plain values"),
        ("a: !mine {x: 1}", "only plain values"),
        ("a: !!int x", "'x' is no int"),
        ("a: \x01", "no valid YAML: .*control characters"),
        ("a: \ud800", "no valid YAML"),
        ("a: [1", "x.yaml, line"),
        ("a: @b", "x.yaml, line 1: found character that cannot start any token"),
    ],
    ids=brief,
)
def test_what_is_refused_quickly_in_one_line(text, message):
    began = time.perf_counter()
    with pytest.raises(ClbenchError, match=message) as caught:
        read_text(text, "x.yaml")
    assert time.perf_counter() - began < 2
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).startswith("x.yaml")


WORDS = ["1e-3", "1e3", "012", "0o7", "089", "yes", "null", "~", "", "<<", "...", "a...b", "-", "é"]
WORDS += ["2026-01-01", "1:30", ".inf", "1_000", " a ", "x\ny", "# no", "a: b", "'", '"', "\u200cα"]


@pytest.mark.parametrize("flow", [True, False], ids=brief)
@pytest.mark.parametrize("value", [*WORDS, 1e-5, float("inf"), True, None, -0.0, ["no"]], ids=brief)
def test_what_is_written_reads_back_in_any_reader(value, flow):
    text = f"k: {dump(value, flow=True)}" if flow else dump({"k": value})
    for found in (read_text(text, "x")["k"], yaml.safe_load(text)["k"]):
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": {1: 2}}, "a: key 1 is no text"),
        ({"a": [{"b": "x\0"}]}, "a.b = .*control characters"),
        ({"a\x1b": 1}, "control characters"),
        ({"a": "\udc80"}, "no text in UTF-8"),
        ({"a": float("nan")}, "a = nan"),
        ({"a": 10**5000}, "a = <a whole number of 16610 bits>"),
        ({"a": dict.fromkeys(map(str, range(2000)))}, "2,000 keys"),
        ({"a": [0] * (NODES + 1)}, "more than 100,000 values"),
    ],
    ids=brief,
)
def test_bounds_hold_for_values_that_are_no_text(values, message):
    with pytest.raises(ClbenchError, match=message):
        check_plain(values)


def test_values_that_hold_themselves_are_refused():
    values: dict = {}
    values["a"] = values
    with pytest.raises(ClbenchError, match="nested"):
        check_plain(values)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 10**5000, [10**5000], list(range(10**5)), {"a": "x" * 999}],
    ids=brief,
)
def test_values_are_shown_short(value):
    assert 0 < len(shown(value)) <= 80


def test_messages_are_one_line_whatever_is_in_them():
    line = one_line("a\nb\r\x1b[31m\u2028\u202e é नमस्ते " + "x" * 5000)
    assert line.isprintable()
    assert line.startswith(r"a\nb\r\x1b[31m\u2028\u202e é नमस्ते x")
    assert len(line) < 2100


@pytest.mark.parametrize(
    "raw",
    [
        "seed: 3\nname: é".encode(),
        "seed: 3\nname: é".encode("utf-8-sig"),
        "seed: 3\nname: é".encode("utf-16"),
        "seed: 3\r\nname: é\r\n".encode("utf-16"),
        b"\xfe\xff" + "seed: 3\nname: é".encode("utf-16-be"),
        "seed: 3\nname: é".encode("utf-32"),
    ],
    ids=brief,
)
def test_files_are_utf_8_or_say_what_they_are(tmp_path, raw):
    (tmp_path / "x.yaml").write_bytes(raw)
    assert read(str(tmp_path / "x.yaml")) == {"seed": 3, "name": "é"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "seed: 3\nname: é".encode("latin-1"),
            "x.yaml, line 2: byte 0xe9 at offset 14 is not UTF-8",
        ),
        ("seed: 3".encode("utf-16-le"), "NUL characters .UTF-16 without a mark"),
        (b"\xff\xfea", "not UTF-16"),
        (b"PK\x03\x04\x80", "not UTF-8"),
        (b"#" * (4 * 2**20 + 1), "4,194,305 bytes: a file of settings has at most"),
        (b"", "must be a mapping"),
        (b"- 1", "must be a mapping"),
        (b"word", "must be a mapping"),
    ],
    ids=brief,
)
def test_other_files_are_refused_by_name(tmp_path, raw, message):
    (tmp_path / "x.yaml").write_bytes(raw)
    with pytest.raises(ClbenchError, match=message) as caught:
        read(str(tmp_path / "x.yaml"))
    assert str(tmp_path / "x.yaml") in str(caught.value)


def test_pipes_devices_and_folders_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ClbenchError, match="is a pipe or a device"):
            find(str(path))
    for path in (tmp_path, "/", ".", ".."):
        with pytest.raises(ClbenchError, match="is a folder, not a file"):
            find(str(path))
    with pytest.raises(ClbenchError, match="cannot be read: No such file"):
        read_file(tmp_path / "nothing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "x.yaml").write_text("seed: 1")
    (tmp_path / "x.yaml").chmod(0)
    with pytest.raises(ClbenchError, match="cannot be read: Permission denied"):
        read(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("x" * 5000, "too long"),
        ("a\0b", "no config 'a.x00b'|cannot be a path"),
        ("a/b/c", "no config 'a/b/c'"),
        ("~nobody-of-this-name/x", "no config '~nobody"),
    ],
    ids=brief,
)
def test_names_of_no_file(name, message):
    with pytest.raises(ClbenchError, match=message):
        find(name)


def test_home_stands_for_the_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.yaml").write_text("seed: 1")
    assert read("~/x") == {"seed": 1}
    assert (home("~"), home("a~"), home("./~")) == (str(tmp_path), "a~", "./~")
