"""Archives in another compression than the official ones are taken by what is in them."""

import bz2
import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
import writers
from test_datasets import ignore_checksums, network, pixels, write_cifar100
from torchvision import datasets as tv

from clbench.data.datasets import load, repacked
from clbench.errors import ClbenchError

__all__ = ["network"]
pytestmark = pytest.mark.usefixtures("network")


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Fashion-MNIST of four training and two test images, compressed by somebody else."""
    shapes = [(4, 28, 28), (4,), (2, 28, 28), (2,)]
    monkeypatch.setattr(repacked, "IDX_SHAPES", dict(zip(writers.IDX_FILES, shapes, strict=True)))
    monkeypatch.setattr("clbench.data.datasets.arrays.IDX_SHAPES", repacked.IDX_SHAPES)
    folder = tmp_path / "FashionMNIST" / "raw"
    labels = [np.array([9, 0, 3, 3], np.uint8), np.array([1, 0], np.uint8)]
    arrays = [pixels(4, 28, 28), labels[0], pixels(2, 28, 28, seed=1), labels[1]]
    writers.write_idx(folder, arrays, compressed=True)
    return folder


@pytest.mark.parametrize("download", [False, True])
def test_idx_archives_with_the_right_content(raw, tmp_path, download, network, capsys):
    before = {path: path.read_bytes() for path in raw.iterdir()}
    data = load("fashion_mnist", tmp_path, download)
    np.testing.assert_array_equal(data.train.images, pixels(4, 28, 28))
    np.testing.assert_array_equal(data.test.images, pixels(2, 28, 28, seed=1))
    assert data.train.labels.tolist() == [9, 0, 3, 3]
    assert data.test.labels.tolist() == [1, 0]
    assert network == []
    assert "not the official ones" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in raw.iterdir()} == before  # nothing is written


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-9], "is damaged"),
        (lambda content: content[:-6] + b"\0\0" + content[-4:], "is damaged"),
        (lambda content: b"words", "is damaged"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "does not hold 4 images"),
        (lambda content: gzip.compress(gzip.decompress(content) + b"\0"), "does not hold 4 images"),
    ],
)
def test_idx_archives_that_are_not_whole(raw, tmp_path, damage, why, network):
    path = raw / f"{writers.IDX_FILES[0]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ClbenchError, match=f"Fashion-MNIST is missing.*{why}") as caught:
        load("fashion_mnist", tmp_path, download=False)
    assert "\n" not in str(caught.value)
    assert network == []


def cifar(tmp_path, monkeypatch, change=b""):
    """A CIFAR-100 in a bzip2 archive under the official name, with checksums of its files."""
    ignore_checksums(monkeypatch, tv.CIFAR100)
    write_cifar100(tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / "cifar-100-python"

    def md5(name):
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for attribute in ("train_list", "test_list"):
        files = [[file, md5(file)] for file, _ in getattr(tv.CIFAR100, attribute)]
        monkeypatch.setattr(tv.CIFAR100, attribute, files)
    monkeypatch.setattr(tv.CIFAR100, "meta", {**tv.CIFAR100.meta, "md5": md5("meta")})
    if change:
        (folder / "test").write_bytes((folder / "test").read_bytes() + change)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, "cifar-100-python")
        tar.addfile(tarfile.TarInfo("../outside"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar-100-python.tar.gz").write_bytes(bz2.compress(buffer.getvalue()))
    return tmp_path / "data"


def test_cifar_archive_with_the_right_content(tmp_path, monkeypatch, network):
    root = cifar(tmp_path, monkeypatch)
    data = load("cifar100", root, download=False)
    assert data.train.labels.tolist() == [1, 0, 1]
    assert network == []
    assert not (tmp_path / "outside").exists()


def test_cifar_archive_with_other_content(tmp_path, monkeypatch):
    root = cifar(tmp_path, monkeypatch, b"\0")
    with pytest.raises(ClbenchError, match=r"cifar-100-python/test in .* has another checksum"):
        load("cifar100", root, download=False)
    assert [path.name for path in root.iterdir()] == ["cifar-100-python.tar.gz"]


def test_cifar_archive_that_is_damaged(tmp_path, monkeypatch):
    root = cifar(tmp_path, monkeypatch)
    archive = root / "cifar-100-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-300])
    with pytest.raises(ClbenchError, match="is damaged or lacks files"):
        load("cifar100", root, download=False)


def test_archives_whose_content_is_not_known_say_checksum(tmp_path):
    (tmp_path / "food-101.tar.gz").write_bytes(b"other")
    with pytest.raises(
        ClbenchError, match=r"food-101.tar.gz: the MD5 checksum is not the official"
    ):
        load("food101", tmp_path, download=False)
