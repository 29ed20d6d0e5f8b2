"""The site: whole, linked, safe, and made anew where something changed."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from board.labs import CONFIG, build, lab, say
from report.test_strangers import CONFIGS, EVIL, RECORDS, TEXTS

from clbench.board import checked
from clbench.board.building import build_board
from clbench.board.pages import web_link
from clbench.cli.commands import command
from clbench.errors import ClbenchError
from clbench.files.lock import alone
from clbench.submission import archive
from clbench.submission.verdicts import RowVerdict, write_verdicts


class Page(HTMLParser):
    """The tags, links, names and script of a page."""

    def __init__(self, path):
        super().__init__()
        self.path, self.tags, self.links, self.ids, self.text = path, [], [], set(), ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag in ("a", "link"):
            self.links.append(values["href"])
        if "id" in values:
            self.ids.add(values["id"])

    def handle_data(self, data):
        self.text += data


def pages_of(site):
    return [Page(path) for path in sorted(site.rglob("*.html"))]


def text_of(path):
    return re.sub(r"\s+", " ", Page(path).text)


def board_of(site, title=""):
    (path,) = [p for p in (site / "boards").glob("*.html") if title in p.name]
    return path


def row_of(path, label, table=0):
    """The cells of a row, as texts."""
    found = path.read_text("utf-8").split("<tbody>")[1 + table].split("</tbody>")[0]
    for line in found.split("<tr>"):
        cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL)
        told = [re.sub(r"<small>.*?</small>|<[^>]+>", "", cell).strip() for cell in cells]
        if told and told[0] == label:
            return told
    return None


def assert_linked(site, *elsewhere):
    """Every link leads to a file of the site, and to a place that is there."""
    known = {page.path.resolve(): page for page in pages_of(site)}
    for path, page in known.items():
        for link in page.links:
            if link in ("data:,", *elsewhere):
                continue
            file, _, place = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_relative_to(site.resolve())
            assert target.is_file(), link
            assert not place or place in known[target].ids, link


def test_every_link_leads_somewhere_and_every_number_to_its_record(tmp_path, monkeypatch):
    say(monkeypatch)
    about = {"link": "https://example.org/a?b=1&c", "contact": "mail", "license": "MIT"}
    kept = {"retention": 0.7}
    methods = {"sequential": 0.5, "sfa": 0.9, "ewc": 0.7}
    ours = lab(tmp_path / "in", "ours", methods, about=about, **kept)
    lab(tmp_path / "in", "theirs", {"sfa": 0.6, "lwf": 0.65}, seeds=[0, 1], **kept)
    made = build(tmp_path / "in")
    site = made.index.parent
    assert (made.boards, made.checked, made.problems) == (1, 2, ())
    assert made.counts == {"verified": 0, "self-reported": 5, "disputed": 0}
    found = pages_of(site)
    assert len(found) == 1 + 1 + 2 + 9 + 4
    script = re.search(r"<script>(.*)</script>", board_of(site).read_text(), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    for page in found:
        policies = [v["content"] for tag, v in page.tags if v.get("http-equiv")]
        assert len(policies) == 1
        assert "default-src 'none'; style-src 'self' file: 'unsafe-inline'" in policies[0]
        assert f"script-src 'sha256-{digest}'" in policies[0]
    assert_linked(site, about["link"])
    # The raw record is that of the file, and the run's page leads to it.
    (folder,) = (site / "submissions").glob("ours-*")
    packed = archive.unzipped(ours.path.read_bytes())
    for number in range(9):
        raw = packed.read(f"runs/{number}/record.jsonl")
        assert (folder / str(number) / "record.jsonl").read_bytes() == raw
        assert "record.jsonl" in Page(folder / str(number) / "index.html").links
    assert about["link"] in Page(folder / "index.html").links
    assert "MIT" in text_of(folder / "index.html")
    # The board's rows: labels that two submissions share are told apart, ranks are what noise says.
    board = board_of(site)
    assert row_of(board, f"sfa · {folder.name}")[1] == "1"
    assert row_of(board, "ewc")[1] == "2"
    assert row_of(board, "lwf")[4] == "2"  # seeds
    assert "Retention" in text_of(board)
    assert "<svg" in board.read_text()  # the frontier


def test_what_is_disputed_is_never_ranked(tmp_path, monkeypatch):
    say(monkeypatch, {"sfa": ("disputed", "steps: <b>7</b> of 9")})
    lab(tmp_path / "in", "ours", {"sequential": 0.5, "sfa": 0.9, "ewc": 0.7})
    made = build(tmp_path / "in")
    board = board_of(made.index.parent)
    assert row_of(board, "sfa") is None
    assert row_of(board, "ewc")[1] == "1"
    assert "steps: <b>7</b> of 9" in text_of(board)
    assert made.counts["disputed"] == 1
    assert "disputed" in text_of(made.index)
    # Nothing else than disputes is a board too.
    say(monkeypatch, dict.fromkeys(("sequential", "sfa", "ewc"), ("disputed", "no")))
    (made.index.parent / checked.FILE).unlink()
    shutil.rmtree(made.index.parent)
    made = build(tmp_path / "in")
    assert made.counts["disputed"] == 3
    assert "never ranked" not in text_of(made.index)
    assert "Disputed" in text_of(board_of(made.index.parent))


def verdict(submission, method, word, reason, runs=(0, 1, 2)):
    row = RowVerdict("", method, (0, 1, 2), runs, word, (reason,), ("rerun",), {})
    return write_verdicts(submission, [row], "0.1.0", "2026-01-31", {"device": "cpu"})


def test_a_verdict_file_counts_for_the_file_that_it_is_bound_to(tmp_path, monkeypatch):
    say(monkeypatch)
    one = lab(tmp_path / "in", "one", {"sfa": 0.9})
    two = lab(tmp_path / "in", "two", {"ewc": 0.5})
    path = verdict(one, "sfa", "verified", "seed 1 came out the same")
    made = build(tmp_path / "in")
    assert made.counts == {"verified": 1, "self-reported": 1, "disputed": 0}
    (page,) = (made.index.parent / "submissions").glob("one-*/index.html")
    assert "of 2026-01-31, by clbench 0.1.0 on device cpu" in text_of(page)
    assert "seed 1 came out the same" in text_of(page)
    path.replace(tmp_path / "in" / "two.verdict.json")  # of another file: it says nothing
    made = build(tmp_path / "in")
    assert made.counts["verified"] == 0
    (page,) = (made.index.parent / "submissions").glob("two-*/index.html")
    assert "is of another file" in text_of(page)
    (tmp_path / "in" / "two.verdict.json").write_text("[" * 100_000)
    assert build(tmp_path / "in").counts["self-reported"] == 2
    verdict(two, "ewc", "disputed", "seed 1 came out otherwise")
    assert build(tmp_path / "in").counts["disputed"] == 1
    verdict(two, "ewc", "verified", "all well", runs=(0, 1))  # of a row that there is not
    assert build(tmp_path / "in").counts["verified"] == 0


def test_a_verdict_file_takes_no_dispute_away(tmp_path, monkeypatch):
    say(monkeypatch, {"sfa": ("disputed", "steps")})
    verdict(lab(tmp_path / "in", "one", {"sfa": 0.9}), "sfa", "verified", "all well")
    assert build(tmp_path / "in").counts["disputed"] == 1


def test_files_that_are_none_are_a_line_each_and_the_others_a_board(tmp_path, monkeypatch, capsys):
    say(monkeypatch)
    one = lab(tmp_path / "in", "good", {"sfa": 0.9})
    place = tmp_path / "in"
    content = one.path.read_bytes()
    (place / "cut.clbench.zip").write_bytes(content[:-40])
    (place / "again.clbench.zip").write_bytes(content)
    (place / "folder.clbench.zip").mkdir()
    (place / "link.clbench.zip").symlink_to("/etc/passwd")
    (place / "<b>text.clbench.zip").write_text("hello")
    (place / "notes.txt").write_text("of nobody")
    assert command(["board", str(place), "--output", str(tmp_path / "site")]) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("warning: ") and len(line) < 450 for line in lines)
    assert any("good.clbench.zip is the same as again.clbench.zip" in line for line in lines)
    assert shown.out.startswith("1 submission (1 checked anew), 3 runs, 1 board; rows: 0 verified")
    index = tmp_path / "site" / "index.html"
    assert text_of(index).count("is no submission") == 4
    assert not [tag for tag, _ in Page(index).tags if tag == "b"]
    for path in place.glob("*.zip"):
        if path.name != "cut.clbench.zip":
            path.unlink() if not path.is_dir() else path.rmdir()
    with pytest.raises(ClbenchError, match=r"no submission can be read: cut.*") as caught:
        build(place)
    assert "\n" not in str(caught.value)
    with pytest.raises(ClbenchError, match="has no submission"):
        build(tmp_path)
    with pytest.raises(ClbenchError, match="there is no folder"):
        build(tmp_path / "nowhere")


def test_only_what_changed_is_checked_again_and_what_is_gone_goes(tmp_path, monkeypatch):
    names = say(monkeypatch)
    place, site = tmp_path / "in", tmp_path / "site"
    lab(place, "one", {"sfa": 0.9})
    lab(place, "two", {"ewc": 0.5})
    build(place, site)
    (site / "own.txt").write_text("mine")
    assert sorted(names) == ["one.clbench.zip", "two.clbench.zip"]
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*.*") if path.is_file()}
    again = build(place, site)
    assert (again.checked, again.note, len(names)) == (0, "", 2)
    after = {path: path.stat().st_mtime_ns for path in site.rglob("*.*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed == {checked.FILE}
    lab(place, "two", {"ewc": 0.6}, title="changed")
    (place / "one.clbench.zip").unlink()
    assert build(place, site).checked == 1
    assert names[2:] == ["two.clbench.zip"]
    assert len(list((site / "submissions").iterdir())) == 1
    assert (site / "own.txt").read_text() == "mine"
    monkeypatch.setattr(checked, "code", lambda: "another")
    made = build(place, site)
    assert made.checked == 1
    assert "this clbench is another" in made.note
    (site / checked.FILE).write_text('{"submissions": 3}')
    made = build(place, site)
    assert made.checked == 1
    assert "cannot be read" in made.note


def test_a_folder_of_something_else_is_not_written_to(tmp_path, monkeypatch):
    say(monkeypatch)
    lab(tmp_path / "in", "one", {"sfa": 0.9})
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.tex").write_text("all of it")
    with pytest.raises(ClbenchError, match="is not empty, and no site of boards"):
        build(tmp_path / "in")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["thesis.tex"]
    with pytest.raises(ClbenchError, match="is not empty"):
        build(tmp_path / "in", tmp_path / "in")


def test_class_orders_have_a_page_of_their_own(tmp_path, monkeypatch):
    say(monkeypatch)
    methods = {"sfa": 0.9, "ewc": 0.5}
    for name, tasks, manifest in (("one", ["a", "b"], "b" * 64), ("two", ["b", "a"], "c" * 64)):
        runs = {"names": tasks, "manifest": manifest, "title": name}
        lab(tmp_path / "in", name, methods, seeds=2, **runs)
        lab(tmp_path / "in", "both", methods, seeds=2, keep=name == "two", **runs)
    made = build(tmp_path / "in")
    assert made.boards == 2
    path = board_of(made.index.parent, "orders-")
    label = next(n for n in re.findall(r">(sfa[^<]*)</a>", path.read_text()) if "both" in n)
    assert row_of(path, label)[1] == "2 × 2"
    assert row_of(path, label.replace("sfa", "ewc"), table=1)[1] == "2.00"
    # Two submissions with an order each are no method over orders.
    assert len(re.findall("<details", path.read_text())) == 2
    assert_linked(made.index.parent)
    assert f"boards/{path.name}" in Page(made.index).links


def test_the_same_numbers_in_another_submission_are_said(tmp_path, monkeypatch):
    say(monkeypatch)
    lab(tmp_path / "in", "mine", {"sfa": 0.9}, spread=0.0)
    lab(tmp_path / "in", "yours", {"sfa": 0.9}, title="Yours", authors=["Another"], spread=0.0)
    board = board_of(build(tmp_path / "in").index.parent)
    assert text_of(board).count("exactly the accuracies of") == 2


def test_no_text_of_a_submission_becomes_markup_or_a_path(tmp_path, monkeypatch):
    evil = EVIL.replace("\x1b", "").replace("\u202e", "")  # which no submission can say of itself
    say(monkeypatch, {})
    place = tmp_path / "in"
    more = {"config": CONFIG | {"note": evil}, "names": [EVIL, f"{EVIL}2"], "source": EVIL}
    more |= {"stream": EVIL, "backbone": EVIL, "manifest": EVIL, "torch": EVIL, "retention": 0.5}
    more["about"] = {"license": evil, "contact": evil}
    names = ["..", "...", "a b", "<img src=x onerror=alert(1)>", "x" * 200, "Café-数字", "a"]
    for name in names:
        made = lab(place, name.replace("/", ""), {f"sfa{EVIL}": 0.9}, 2, evil, [evil, evil], **more)
    shutil.copy(made.path, place / "A.clbench.zip")
    site = build(place).index.parent
    own = set(site.rglob("*"))
    assert set(tmp_path.rglob("*.html")) <= own
    assert len(list((site / "submissions").iterdir())) == len(names)
    for page in pages_of(site):
        assert len(page.path.parent.name) < 100
        assert not {"\x1b", "\u202e"} & set(page.path.read_text("utf-8"))
        scripts = [tag for tag, _ in page.tags].count("script")
        assert scripts == ("boards" in page.path.parts)
        assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "base")]
        assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
        assert not any(link.lower().startswith("javascript") for link in page.links)


def forged(good, record=None, config=None):
    """A submission with another record or recipe, whose hashes are made anew."""
    found = archive.unzipped(good)
    members = {name: found.read(name) for name in found.members}
    told = json.loads(members.pop("submission.json"))
    if record is not None:
        members["runs/0/record.jsonl"] = record
    if config is not None:
        members["runs/0/config.yaml"] = config.encode()
    told["sha256"] = {name: hashlib.sha256(c).hexdigest() for name, c in members.items()}
    return archive.zipped({"submission.json": json.dumps(told).encode(), **members})


def test_what_no_run_can_have_written_is_a_line_each_as_in_reports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    say(monkeypatch)
    place = tmp_path / "in"
    good = lab(place, "good", {"sfa": 0.9}, 1, retention=0.7).path.read_bytes()
    lines = archive.unzipped(good).read("runs/0/record.jsonl").splitlines()
    bad = {f"text {name}": forged(good, text) for name, text in TEXTS.items()}
    bad |= {f"config {name}": forged(good, config=text) for name, text in CONFIGS.items()}
    for name, change in RECORDS.items():
        events = [json.loads(line) for line in lines]
        change(events)
        record = "".join(json.dumps(event) + "\n" for event in events)
        bad[name] = forged(good, record.encode())
    for name, content in bad.items():
        (place / f"{name}.clbench.zip").write_bytes(content)
    made = build(place)
    assert [one.file for one in made.submissions] == ["good.clbench.zip"]
    assert len(made.problems) == len(bad) > 90
    assert all("\n" not in line and len(line) <= 400 for line in made.problems)
    named = {name for name in bad for line in made.problems if line.startswith(f"{name}.clbench")}
    assert named == bad.keys()
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "//evil",
        "https://",
        "[",
        "",
    ],
)
def test_a_link_that_a_browser_would_run_is_a_text(link):
    assert web_link(link) is None


def test_a_study_of_our_own_is_checked_and_stands(tmp_path):
    from clbench.submission import pack

    records = Path(__file__).parents[2] / "docs/results/retention_measures/records"
    (tmp_path / "in").mkdir()
    pack([records], tmp_path / "in" / "own.clbench.zip", "What is forgotten", ["clbench"])
    made = build(tmp_path / "in")
    assert made.counts == {"verified": 0, "self-reported": 8, "disputed": 0}
    kept = json.loads((made.index.parent / checked.FILE).read_text())
    (rows,) = kept["submissions"].values()
    assert all(len(row["made"]) > 8 for row in rows)


def test_what_was_checked_without_data_is_checked_again_with_it(tmp_path, monkeypatch):
    for name in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    names = say(monkeypatch)
    place, site, data = tmp_path / "in", tmp_path / "site", tmp_path / "data"
    lab(place, "one", {"sfa": 0.9})

    def again():
        return build_board(place, site, "made up", data)

    assert (again().checked, again().checked) == (1, 0)
    (data / "birds" / "train").mkdir(parents=True)
    made = again()
    assert (made.checked, len(names)) == (1, 2)
    assert "other data or weights are here by now" in made.note
    (data / "birds" / "train" / "a.png").write_bytes(b"x")
    assert (again().checked, again().checked) == (1, 0)
    (tmp_path / "TORCH_HOME" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "TORCH_HOME" / "hub" / "checkpoints" / "resnet18.pth").write_bytes(b"x")
    assert again().checked == 1


def test_two_builds_of_one_folder_are_refused_and_a_build_cut_off_goes_on(tmp_path, monkeypatch):
    say(monkeypatch)
    place, site = tmp_path / "in", tmp_path / "site"
    lab(place, "one", {"sfa": 0.9})
    site.mkdir()
    with alone(site), pytest.raises(ClbenchError, match="another process is at work in"):
        build(place, site)
    (site / f".{checked.FILE}.partial").write_text("{")  # killed before the mark was there
    assert build(place, site).checked == 1


def test_a_build_that_is_cut_off_has_no_page_to_begin_with(tmp_path, monkeypatch):
    say(monkeypatch)
    lab(tmp_path / "in", "one", {"sfa": 0.9})

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clbench.board.building.write_submission", killed)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "in")
    assert not (tmp_path / "site" / "index.html").exists()
    assert_linked(build(tmp_path / "in").index.parent)
