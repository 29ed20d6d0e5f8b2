"""What phones, computers, notebooks and microscopes leave in folders is passed over, and said."""

import os
import socket
import unicodedata
from pathlib import Path

import pytest
import writers

from clbench.data.datasets import image_folder
from clbench.data.datasets import walk as module
from clbench.data.datasets.walk import listing
from clbench.data.decode import ENDINGS
from clbench.errors import ClbenchError


@pytest.fixture
def root(tmp_path):
    """Two classes of two images."""
    for name in ("cat", "dog"):
        for number in range(2):
            writers.write_image(tmp_path / "root" / name / f"{number}.jpg")
    return tmp_path / "root"


def listed(root):
    found = listing(root)
    names = [[str(path.relative_to(root)) for path in images] for images in found.images]
    return dict(zip(found.classes, names, strict=True)), dict(found.passed.found)


PLAIN = {"cat": ["cat/0.jpg", "cat/1.jpg"], "dog": ["dog/0.jpg", "dog/1.jpg"]}

LEFT_BEHIND = [
    ".DS_Store",
    "desktop.ini",
    "Thumbs.db",
    "labels.csv",
    "loose.jpg",
    "cat/._0.jpg",
    "cat/.DS_Store",
    "cat/Thumbs.db",
    "cat/notes.txt",
    "cat/0.jpg.xmp",
    "cat/no_ending",
    "cat/film.mp4",
    "cat/.ipynb_checkpoints/0-checkpoint.jpg",
    "cat/@eaDir/0.jpg",
    "cat/sub/.hidden/0.jpg",
    ".git/0.jpg",
    "__MACOSX/cat/._0.jpg",
    "@eaDir/0.jpg",
    "$RECYCLE.BIN/0.jpg",
    "System Volume Information/0.jpg",
]


@pytest.mark.parametrize("path", LEFT_BEHIND)
def test_what_is_left_behind_is_passed_over(root, path):
    writers.write_image(root / path)
    found, passed = listed(root)
    assert found == PLAIN
    assert len(passed) == 1


def test_what_is_passed_over_is_one_line_with_counts_and_examples(root, capsys):
    for path in LEFT_BEHIND:
        writers.write_image(root / path)
    listing(root).passed.tell(root)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"Passed over in {root}: ")
    assert "3 hidden files (.DS_Store)" in said[0]
    assert "8 files without an image's ending" in said[0]
    assert "1 image files beside the class folders (loose.jpg)" in said[0]


def test_nothing_is_said_of_a_clean_folder(root, capsys):
    listing(root).passed.tell(root)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", [*ENDINGS, ".JPG", ".Jpeg", ".JFIF", ".TIFF"])
def test_endings_of_images(root, ending):
    assert {".jpg", ".jpe", ".jfif", ".webp", ".tif", ".gif"} < set(ENDINGS)
    writers.write_image(root / "cat" / f"2{ending}")
    assert listed(root)[0]["cat"][-1] == f"cat/2{ending}"
    assert listed(root)[1] == {}


def test_images_without_a_decoder_are_said(root, monkeypatch):
    writers.write_image(root / "cat" / "2.HEIC")
    found, passed = listed(root)
    assert found == PLAIN
    assert list(passed) == [
        ".heic images, for which there is no decoder here: pip install pillow-heif, or save them "
        "as JPEG"
    ]
    monkeypatch.setattr(module, "formats", lambda: ("HEIF",))
    assert listed(root)[0]["cat"][-1] == "cat/2.HEIC"


def test_pipes_sockets_and_devices_are_not_opened(root, monkeypatch):
    os.mkfifo(root / "cat" / "pipe.jpg")
    monkeypatch.chdir(root / "cat")  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        (root / "dog" / "zero.jpg").symlink_to("/dev/zero")
        found, passed = listed(root)
    assert found == PLAIN
    assert {len(paths) for paths in passed.values()} == {3}


def test_a_link_that_leads_nowhere_is_an_image_that_is_missing(root):
    (root / "cat" / "2.jpg").symlink_to("nowhere.jpg")
    (root / "cat" / "3.jpg").symlink_to("3.jpg")
    assert listed(root)[0]["cat"][2:] == ["cat/2.jpg", "cat/3.jpg"]


def test_links_to_folders_are_followed_but_not_in_circles(root, tmp_path):
    writers.write_image(tmp_path / "elsewhere" / "9.jpg")
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "self").symlink_to(".")
    (root / "dog" / "up").symlink_to("..")
    found, passed = listed(root)
    assert found == PLAIN | {"cat": [*PLAIN["cat"], "cat/more/9.jpg"]}
    assert [len(paths) for paths in passed.values()] == [2]


def test_the_order_is_that_of_torchvision(root):
    from torchvision.datasets import ImageFolder

    for path in ("cat/B/1.jpg", "cat/a/1.jpg", "cat/10.jpg", "cat/a/0/3.jpg", "Zebra/1.png"):
        writers.write_image(root / path)
    wanted = [path for path, _ in ImageFolder(root).samples]
    assert [str(path) for images in listing(root).images for path in images] == wanted
    assert list(listing(root).classes) == ImageFolder(root).classes


def test_names_in_any_script(root):
    for name in ("кошка", "猫", "قطة", "cat dog", "a#b", "Ba$$in", "😺"):
        writers.write_image(root / name / "ünï 図.jpg")
    assert len(listed(root)[0]) == 9


def test_images_whose_names_are_no_text(root):
    odd = root / "cat" / os.fsdecode(b"\xff\xfe.jpg")
    writers.write_image(odd)
    writers.write_image(root / "cat" / "new\nline.jpg")
    assert len(listed(root)[0]["cat"]) == 4
    os.mkfifo(root / "cat" / os.fsdecode(b"\xfepipe.jpg"))
    listing(root).passed.tell(root)  # can be printed


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff\xfe"), "new\nline", "tab\tstop", "bell\a"])
def test_classes_whose_names_are_no_text_are_refused(root, name):
    writers.write_image(root / name / "0.jpg")
    with pytest.raises(ClbenchError, match=r"is not text in one line.*rename it") as caught:
        listing(root)
    assert str(caught.value).isprintable()


def test_accents_of_macos_are_the_same_classes(root, tmp_path):
    apart = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    for path, name in zip((root, tmp_path / "other"), apart, strict=True):
        writers.write_image(path / name / "0.jpg")
        writers.write_image(path / "dog" / "0.jpg")
        writers.write_image(path / "cat" / "0.jpg")
    assert image_folder(root, tmp_path / "other").classes == (apart[0], "cat", "dog")
    writers.write_image(root / apart[1] / "0.jpg")
    with pytest.raises(ClbenchError, match="two class folders named café"):
        listing(root)


def test_a_folder_that_cannot_be_read_is_one_line(root, monkeypatch):
    real = os.scandir

    def scandir(path):
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(module.os, "scandir", scandir)
    with pytest.raises(ClbenchError, match=r"root/cat cannot be read \(Permission denied\)"):
        listing(root)


def test_parts_in_place_of_classes_are_refused_with_what_was_meant(tmp_path):
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            writers.write_image(tmp_path / "all" / part / name / "0.jpg")
    with pytest.raises(
        ClbenchError,
        match=r"did you mean --stream.train .*all/train --stream.test .*all/val\?$",
    ):
        image_folder(tmp_path / "all", None)


def test_vehicles_may_be_called_train(tmp_path):
    for name in ("train", "test", "bus"):
        for number in range(5):
            writers.write_image(tmp_path / name / f"{number}.jpg")
    assert image_folder(tmp_path, None).classes == ("bus", "test", "train")


def test_a_folder_around_the_folder_is_refused_with_what_was_meant(tmp_path):
    for name in ("cat", "dog"):
        writers.write_image(tmp_path / "zip" / "pets" / name / "0.jpg")
    with pytest.raises(
        ClbenchError, match=r"single class folder, pets, .*--stream.train .*zip/pets"
    ):
        image_folder(tmp_path / "zip", None)


@pytest.mark.parametrize("other", ["same", "link", "dots"])
def test_one_folder_for_training_and_testing_is_refused(root, tmp_path, other):
    (tmp_path / "link").symlink_to(root)
    test = {"same": root, "link": tmp_path / "link", "dots": root / "cat" / ".."}[other]
    with pytest.raises(ClbenchError, match="given for training and for testing: give a folder"):
        image_folder(root, test)


def test_home_of_nobody(root):
    with pytest.raises(ClbenchError, match="there is no such user"):
        image_folder(Path("~nobody-of-that-name/x"), root)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "cat/0.jpg", "cat/0.jpg/below"])
def test_paths_that_are_no_folder(root, name):
    with pytest.raises(ClbenchError, match=r"is no path|does not exist or is not a folder") as e:
        image_folder(root / name, None)
    assert str(e.value).isprintable()


def test_the_whole_file_system_is_no_folder_of_classes():
    with pytest.raises(ClbenchError, match="/ is the root of the file system"):
        listing(Path("/"))


def test_a_long_listing_says_so_once(root, monkeypatch, capsys):
    monkeypatch.setattr("clbench.data.datasets.walk.QUIET", -1.0)
    listing(root)
    assert capsys.readouterr().out.count("folders so far") == 1
