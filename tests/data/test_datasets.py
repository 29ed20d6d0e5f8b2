"""Each loader reads its real on-disk format, and each mistake gets one clear message."""

import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import writers
from torchvision import datasets as tv

from clbench.data.datasets import (
    DATASETS,
    SOURCES,
    DataSet,
    image_folder,
    imagenet_validation,
    load,
)
from clbench.errors import ClbenchError


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No test reaches the network; the addresses asked for are listed here."""
    asked: list[str] = []

    def refuse(request: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(request.full_url)
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return asked


def message(error: pytest.ExceptionInfo[ClbenchError]) -> str:
    """The error's text, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Random uint8 images."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), dtype=np.uint8)


def check(data: DataSet, name: str, train: list[int], test: list[int]) -> None:
    """Name, labels in order, and the dtypes every loader promises."""
    assert data.name == name
    assert isinstance(data.classes, tuple)
    assert all(type(title) is str for title in data.classes)
    for part, labels in ((data.train, train), (data.test, test)):
        assert part.labels.dtype == np.int64
        assert part.labels.tolist() == labels
        assert len(part.images) == len(labels)
        if isinstance(part.images, np.ndarray):
            assert part.images.dtype == np.uint8
            assert part.images.flags.c_contiguous
        else:
            assert isinstance(part.images, tuple)
            assert all(isinstance(path, Path) and path.is_file() for path in part.images)


def names(paths: Any) -> list[str]:
    """Each path's folder and file name."""
    return [f"{path.parent.name}/{path.name}" for path in paths]


# --- in-memory sets ---------------------------------------------------------------------------


def test_digits_split_is_every_fifth_image_of_a_class(tmp_path: Path, network: list[str]) -> None:
    from sklearn.datasets import load_digits

    original = load_digits()
    data = load("digits", tmp_path)
    test = [i for digit in range(10) for i in np.flatnonzero(original.target == digit)[4::5]]
    test = sorted(test)
    train = sorted(set(range(1797)) - set(test))
    check(data, "digits", original.target[train].tolist(), original.target[test].tolist())
    assert (len(train), len(test)) == (1442, 355)
    assert isinstance(data.train.images, np.ndarray)
    assert isinstance(data.test.images, np.ndarray)
    assert data.train.images.shape == (1442, 8, 8)
    np.testing.assert_allclose(data.test.images, original.images[test] * 255 / 16, atol=0.5)
    assert data.train.images.max() == 255
    assert data.classes == tuple("0123456789")
    assert network == []
    assert list(tmp_path.iterdir()) == []


IDX_SETS = [
    ("mnist", "MNIST", tv.MNIST),
    ("fashion_mnist", "FashionMNIST", tv.FashionMNIST),
    ("kmnist", "KMNIST", tv.KMNIST),
]


@pytest.mark.parametrize(("name", "folder", "kind"), IDX_SETS)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("download", [False, True])
def test_idx_sets(
    name: str,
    folder: str,
    kind: Any,
    compressed: bool,
    download: bool,
    tmp_path: Path,
    network: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, test = pixels(4, 28, 28), pixels(2, 28, 28, seed=1)
    labels = [np.array([9, 0, 3, 3], np.uint8), np.array([1, 0], np.uint8)]
    raw = tmp_path / folder / "raw"
    writers.write_idx(raw, [train, labels[0], test, labels[1]], compressed)
    if compressed:
        sums = [
            (f"{file}.gz", hashlib.md5((raw / f"{file}.gz").read_bytes()).hexdigest())
            for file in writers.IDX_FILES
        ]
        monkeypatch.setattr(kind, "resources", sums)
    data = load(name, tmp_path, download)
    check(data, name, [9, 0, 3, 3], [1, 0])
    np.testing.assert_array_equal(data.train.images, train)
    np.testing.assert_array_equal(data.test.images, test)
    assert data.classes == tuple(kind.classes)
    assert len(data.classes) == 10
    assert network == []


def test_idx_archive_with_wrong_checksum_is_not_unpacked(
    tmp_path: Path, network: list[str]
) -> None:
    arrays = [pixels(1, 28, 28), np.zeros(1, np.uint8)] * 2
    writers.write_idx(tmp_path / "MNIST" / "raw", arrays, compressed=True)
    with pytest.raises(ClbenchError, match="MNIST is missing, incomplete or damaged"):
        load("mnist", tmp_path, download=False)
    assert network == []


def test_idx_images_and_labels_disagree(tmp_path: Path) -> None:
    arrays = [pixels(3, 28, 28), np.zeros(2, np.uint8), pixels(1, 28, 28), np.zeros(1, np.uint8)]
    writers.write_idx(tmp_path / "MNIST" / "raw", arrays)
    with pytest.raises(ClbenchError, match="3 training images but 2 labels") as error:
        load("mnist", tmp_path, download=False)
    assert "yann.lecun.com" in message(error)


def test_idx_label_beyond_the_classes(tmp_path: Path) -> None:
    arrays = [pixels(1, 28, 28), np.zeros(1, np.uint8), pixels(1, 28, 28), np.full(1, 10, np.uint8)]
    writers.write_idx(tmp_path / "MNIST" / "raw", arrays)
    with pytest.raises(ClbenchError, match="test labels run from 10 to 10"):
        load("mnist", tmp_path, download=False)


def test_idx_truncated_file(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    writers.write_idx(raw, [pixels(2, 28, 28), np.zeros(2, np.uint8)] * 2)
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ClbenchError, match="MNIST is missing, incomplete or damaged") as error:
        load("mnist", tmp_path, download=False)
    assert "RuntimeError" in message(error)


def ignore_checksums(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Let torchvision's CIFAR classes take files that the test wrote."""
    for attribute in ("train_list", "test_list"):
        files = [[file, None] for file, _ in getattr(kind, attribute)]
        monkeypatch.setattr(kind, attribute, files)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})


def test_cifar10(tmp_path: Path, network: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_checksums(monkeypatch, tv.CIFAR10)
    titles = ["airplane", "automobile", "bird"]
    batches = {f"data_batch_{i}": (pixels(2, 32, 32, 3, seed=i), [2, i % 3]) for i in range(1, 6)}
    test = pixels(3, 32, 32, 3, seed=9)
    writers.write_cifar(
        tmp_path / "cifar-10-batches-py",
        {**batches, "test_batch": (test, [0, 1, 2])},
        "labels",
        ("batches.meta", "label_names", titles),
    )
    data = load("cifar10", tmp_path, download=False)
    check(data, "cifar10", [2, 1, 2, 2, 2, 0, 2, 1, 2, 2], [0, 1, 2])
    written = np.concatenate([images for images, _ in batches.values()])
    np.testing.assert_array_equal(data.train.images, written)
    np.testing.assert_array_equal(data.test.images, test)
    assert data.classes == tuple(titles)
    assert network == []


def write_cifar100(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """A CIFAR-100 of two classes, three training images and one test image."""
    train, test = pixels(3, 32, 32, 3), pixels(1, 32, 32, 3, seed=1)
    writers.write_cifar(
        root / "cifar-100-python",
        {"train": (train, [1, 0, 1]), "test": (test, [0])},
        "fine_labels",
        ("meta", "fine_label_names", ["apple", "aquarium_fish"]),
    )
    return train, test


def test_cifar100(tmp_path: Path, network: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_checksums(monkeypatch, tv.CIFAR100)
    train, test = write_cifar100(tmp_path)
    data = load("cifar100", tmp_path, download=False)
    check(data, "cifar100", [1, 0, 1], [0])
    np.testing.assert_array_equal(data.train.images, train)
    np.testing.assert_array_equal(data.test.images, test)
    assert data.classes == ("apple", "aquarium_fish")
    assert network == []


def test_cifar100_checksums_are_kept(tmp_path: Path, network: list[str]) -> None:
    write_cifar100(tmp_path)
    with pytest.raises(ClbenchError, match="CIFAR-100 is missing, incomplete or damaged"):
        load("cifar100", tmp_path, download=False)
    assert network == []


def cifar100_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A CIFAR-100 archive that torchvision takes for the original."""
    ignore_checksums(monkeypatch, tv.CIFAR100)
    write_cifar100(folder)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder / "cifar-100-python", "cifar-100-python")
    content = buffer.getvalue()
    monkeypatch.setattr(tv.CIFAR100, "tgz_md5", hashlib.md5(content).hexdigest())
    return content


def test_archive_on_disk_needs_no_network(
    tmp_path: Path, network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cifar100_archive(tmp_path / "elsewhere", monkeypatch)
    root = tmp_path / "data"
    root.mkdir()
    (root / "cifar-100-python.tar.gz").write_bytes(content)
    check(load("cifar100", root, download=False), "cifar100", [1, 0, 1], [0])
    assert network == []


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = cifar100_archive(tmp_path / "elsewhere", monkeypatch)

    class Response(io.BytesIO):
        url = None
        length = len(content)

    monkeypatch.setattr(urllib.request, "urlopen", lambda request, **_: Response(content))
    check(load("cifar100", tmp_path / "data"), "cifar100", [1, 0, 1], [0])


# --- sets of image files ----------------------------------------------------------------------

FOOD_TRAIN = {"waffles": ["10", "11"], "apple_pie": ["5"]}
FOOD_TEST = {"waffles": ["12"], "apple_pie": ["6", "7"]}


def test_food101(tmp_path: Path, network: list[str]) -> None:
    writers.write_food101(tmp_path, FOOD_TRAIN, FOOD_TEST)
    data = load("food101", tmp_path, download=False)
    check(data, "food101", [1, 1, 0], [1, 0, 0])
    assert names(data.train.images) == ["waffles/10.jpg", "waffles/11.jpg", "apple_pie/5.jpg"]
    assert names(data.test.images) == ["waffles/12.jpg", "apple_pie/6.jpg", "apple_pie/7.jpg"]
    assert data.classes == ("apple_pie", "waffles")
    assert network == []


def test_food101_lists_disagree(tmp_path: Path) -> None:
    writers.write_food101(tmp_path, FOOD_TRAIN, {"waffles": ["12"]})
    with pytest.raises(ClbenchError, match=r"disagree: .*lacks apple_pie") as error:
        load("food101", tmp_path, download=False)
    message(error)


def test_food101_images_missing(tmp_path: Path) -> None:
    writers.write_food101(tmp_path, FOOD_TRAIN, FOOD_TEST)
    (tmp_path / "food-101" / "images" / "waffles" / "11.jpg").unlink()
    with pytest.raises(ClbenchError, match=r"1 of 6 files are not there.*waffles/11\.jpg"):
        load("food101", tmp_path, download=False)


def test_food101_list_damaged(tmp_path: Path) -> None:
    writers.write_food101(tmp_path, FOOD_TRAIN, FOOD_TEST)
    (tmp_path / "food-101" / "meta" / "test.json").write_text('{"waffles": [')
    with pytest.raises(ClbenchError, match="JSONDecodeError") as error:
        load("food101", tmp_path, download=False)
    message(error)


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Flowers-102 of six images, of classes 1, 2 and 102."""
    writers.write_flowers102(tmp_path, [1, 102, 2, 1, 2, 102], [6, 1], [3, 4], [2, 5])
    files = {key: (file, None) for key, (file, _) in tv.Flowers102._file_dict.items()}
    monkeypatch.setattr(tv.Flowers102, "_file_dict", files)
    return tmp_path


def test_flowers102_trains_on_train_and_val(flowers: Path, network: list[str]) -> None:
    data = load("flowers102", flowers, download=False)
    check(data, "flowers102", [101, 0, 1, 0], [101, 1])
    assert names(data.train.images) == [f"jpg/image_0000{i}.jpg" for i in (6, 1, 3, 4)]
    assert names(data.test.images) == ["jpg/image_00002.jpg", "jpg/image_00005.jpg"]
    assert len(data.classes) == 102
    assert data.classes[0] == "pink primrose"
    assert network == []


def test_flowers102_image_missing(flowers: Path) -> None:
    (flowers / "flowers-102" / "jpg" / "image_00005.jpg").unlink()
    with pytest.raises(ClbenchError, match=r"1 of 6 files .*image_00005\.jpg"):
        load("flowers102", flowers, download=False)


CALTECH = {"Faces": 40, "accordion": 31, "BACKGROUND_Google": 3} | {
    f"thing_{i:02d}": 31 for i in range(99)
}


def test_caltech101_draws_thirty_images_a_class(tmp_path: Path, network: list[str]) -> None:
    writers.write_caltech101(tmp_path, CALTECH)
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    (folder / "Faces" / "Thumbs.db").touch()
    (folder / "Faces" / "._image_0001.jpg").touch()
    (folder / ".cache").mkdir()
    data = load("caltech101", tmp_path, download=False)
    classes = ["Faces", "accordion", *(f"thing_{i:02d}" for i in range(99))]
    assert data.classes == tuple(classes)
    train = [label for label in range(101) for _ in range(30)]
    check(data, "caltech101", train, [0] * 10 + list(range(1, 101)))
    assert not set(data.train.images) & set(data.test.images)
    faces = [f"Faces/image_{i:04d}.jpg" for i in range(1, 41)]
    drawn = sorted(faces, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:30]
    assert names(data.train.images[:30]) == sorted(drawn)
    assert names(data.test.images[:10]) == sorted(set(faces) - set(drawn))
    assert network == []


def test_caltech101_draw_stays_the_same(tmp_path: Path) -> None:
    writers.write_caltech101(tmp_path, CALTECH)
    data = load("caltech101", tmp_path, download=False)
    assert names(data.test.images[10:12]) == ["accordion/image_0011.jpg", "thing_00/image_0031.jpg"]


def test_caltech101_incomplete(tmp_path: Path) -> None:
    writers.write_caltech101(tmp_path, {"Faces": 40, "BACKGROUND_Google": 1})
    with pytest.raises(ClbenchError, match="1 class folders instead of 101"):
        load("caltech101", tmp_path, download=False)
    other = tmp_path / "other"
    writers.write_caltech101(other, CALTECH | {"accordion": 30})
    with pytest.raises(ClbenchError, match="accordion has 30 images"):
        load("caltech101", other, download=False)


CARS = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo Convertible 2012"]


def test_stanford_cars(tmp_path: Path, network: list[str]) -> None:
    writers.write_stanford_cars(
        tmp_path, CARS, [("00001.jpg", 3), ("00002.jpg", 1)], [("00001.jpg", 2)]
    )
    data = load("stanford_cars", tmp_path)
    check(data, "stanford_cars", [2, 0], [1])
    assert names(data.train.images) == ["cars_train/00001.jpg", "cars_train/00002.jpg"]
    assert names(data.test.images) == ["cars_test/00001.jpg"]
    assert data.classes == tuple(CARS)
    assert network == []


def test_stanford_cars_class_without_name(tmp_path: Path) -> None:
    writers.write_stanford_cars(tmp_path, CARS, [("00001.jpg", 4)], [("00001.jpg", 2)])
    with pytest.raises(ClbenchError, match="disagree: training labels run from 3 to 3") as error:
        load("stanford_cars", tmp_path)
    message(error)


def test_stanford_cars_list_without_labels(tmp_path: Path) -> None:
    writers.write_stanford_cars(tmp_path, CARS, [("00001.jpg", 1)], [("00001.jpg", 2)])
    unlabelled = tmp_path / "stanford_cars" / "cars_test_annos_withlabels.mat"
    writers.write_cars_list(unlabelled, [("00001.jpg", 2)], field="other")
    with pytest.raises(ClbenchError, match=r"withlabels\.mat has no field 'class'"):
        load("stanford_cars", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a MATLAB file" * 20])
def test_damaged_mat_file(content: bytes, tmp_path: Path) -> None:
    writers.write_stanford_cars(tmp_path, CARS, [("00001.jpg", 1)], [("00001.jpg", 2)])
    (tmp_path / "stanford_cars" / "devkit" / "cars_meta.mat").write_bytes(content)
    with pytest.raises(ClbenchError, match=r"cars_meta\.mat cannot be read") as error:
        load("stanford_cars", tmp_path)
    message(error)


def test_mat_file_without_the_variable(tmp_path: Path) -> None:
    writers.write_stanford_cars(tmp_path, CARS, [("00001.jpg", 1)], [("00001.jpg", 2)])
    devkit = tmp_path / "stanford_cars" / "devkit"
    (devkit / "cars_train_annos.mat").write_bytes((devkit / "cars_meta.mat").read_bytes())
    with pytest.raises(ClbenchError, match="has no variable 'annotations'"):
        load("stanford_cars", tmp_path)


PUG = "n02110958-pug/n02110958_{}.jpg"
TERRIER = "n02098105-soft-coated_wheaten_terrier/n02098105_{}.jpg"


def test_stanford_dogs(tmp_path: Path, network: list[str]) -> None:
    writers.write_stanford_dogs(
        tmp_path, [(PUG.format(7), 2), (TERRIER.format(1), 1)], [(PUG.format(3), 2)]
    )
    data = load("stanford_dogs", tmp_path)
    check(data, "stanford_dogs", [1, 0], [1])
    assert names(data.train.images) == [PUG.format(7), TERRIER.format(1)]
    assert names(data.test.images) == [PUG.format(3)]
    assert data.classes == ("soft-coated_wheaten_terrier", "pug")
    assert network == []


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ([(PUG.format(3), 1)], "label 1 stands for both .*terrier and .*pug"),
        ([(PUG.format(3), 3)], "do not number them one by one"),
        ([("n02085620-Chihuahua/n02085620_1.jpg", 4)], "do not number them one by one"),
    ],
)
def test_stanford_dogs_lists_disagree(
    test: list[tuple[str, int]], problem: str, tmp_path: Path
) -> None:
    writers.write_stanford_dogs(tmp_path, [(PUG.format(7), 2), (TERRIER.format(1), 1)], test)
    with pytest.raises(ClbenchError, match=problem) as error:
        load("stanford_dogs", tmp_path)
    message(error)


def test_stanford_dogs_images_missing(tmp_path: Path) -> None:
    writers.write_stanford_dogs(tmp_path, [(PUG.format(7), 1)], [(PUG.format(3), 1)])
    (tmp_path / "stanford_dogs" / "Images").rename(tmp_path / "stanford_dogs" / "images")
    with pytest.raises(ClbenchError, match=r"2 of 2 files are not there.*Images") as error:
        load("stanford_dogs", tmp_path)
    assert "ImageNetDogs" in message(error)


# --- absent data ------------------------------------------------------------------------------

FOLDERS = {
    "mnist": ("MNIST/raw", "http://yann.lecun.com/exdb/mnist/"),
    "fashion_mnist": ("FashionMNIST/raw", "https://github.com/zalandoresearch/fashion-mnist"),
    "cifar10": ("cifar-10-batches-py", "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "cifar100": ("cifar-100-python", "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "food101": ("food-101", "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"),
    "flowers102": ("flowers-102", "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"),
    "caltech101": ("caltech101", "https://data.caltech.edu/records/mzrjq-6wc02"),
    "stanford_cars": ("stanford_cars", "https://github.com/pytorch/vision/issues/7545"),
    "stanford_dogs": ("stanford_dogs", "http://vision.stanford.edu/aditya86/ImageNetDogs/"),
    "tiny_imagenet": ("tiny-imagenet-200", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
    "cub200": ("CUB_200_2011", "https://www.vision.caltech.edu/datasets/cub_200_2011/"),
    "cub200_pilot": ("cub", "https://github.com/sun-hailong/LAMDA-PILOT"),
    "imagenet_r": ("imagenet-r", "https://github.com/hendrycks/imagenet-r"),
    "imagenet_r_pilot": ("imagenet-r", "https://github.com/sun-hailong/LAMDA-PILOT"),
    "imagenet_a": ("imagenet-a", "https://github.com/sun-hailong/LAMDA-PILOT"),
    "objectnet": ("objectnet", "https://github.com/sun-hailong/LAMDA-PILOT"),
    "omnibenchmark": ("omnibenchmark", "https://github.com/sun-hailong/LAMDA-PILOT"),
    "vtab": ("vtab-cil/vtab", "https://github.com/sun-hailong/LAMDA-PILOT"),
    "core50": ("core50_128x128", "https://vlomonaco.github.io/core50/"),
    "core50_sessions": ("core50_128x128", "https://vlomonaco.github.io/core50/"),
    "office_home": ("OfficeHomeDataset_10072016", "https://www.hemanthdv.org/"),
    "domainnet": ("domainnet", "http://ai.bu.edu/M3SDA/"),
    "fgvc_aircraft": (
        "fgvc-aircraft-2013b",
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    ),
    "dtd": ("dtd/dtd", "https://www.robots.ox.ac.uk/~vgg/data/dtd/"),
    "eurosat": ("eurosat", "https://github.com/phelber/EuroSAT"),
    "oxford_pets": ("oxford-iiit-pet", "https://www.robots.ox.ac.uk/~vgg/data/pets/"),
    "sun397": ("SUN397", "https://vision.princeton.edu/projects/2010/SUN/"),
    "svhn": ("svhn", "http://ufldl.stanford.edu/housenumbers/"),
    "notmnist": ("notMNIST", "https://github.com/facebookresearch/Adversarial-Continual-Learning"),
    "gtsrb": ("gtsrb", "https://benchmark.ini.rub.de/"),
    "resisc45": ("resisc45", "https://huggingface.co/datasets/torchgeo/resisc45"),
    "stl10": ("stl10_binary", "https://cs.stanford.edu/~acoates/stl10/"),
    "pcam": ("pcam", "https://github.com/basveeling/pcam"),
    "fer2013": ("fer2013", "https://www.kaggle.com/c/challenges-in-representation-learning-"),
    "emnist_digits": (
        "EMNIST/raw",
        "https://www.nist.gov/itl/products-and-services/emnist-dataset",
    ),
    "kmnist": ("KMNIST/raw", "https://github.com/rois-codh/kmnist"),
    "rendered_sst2": ("rendered-sst2", "https://github.com/openai/CLIP/"),
    "eurosat_splits": ("EuroSAT_splits", "https://github.com/mlfoundations/task_vectors/issues/1"),
}
NOT_DOWNLOADED = {name for name, source in SOURCES.items() if not source.downloads}


def test_every_set_but_digits_can_be_absent() -> None:
    assert set(DATASETS) == {"digits", *FOLDERS}
    assert {"stanford_cars", "stanford_dogs"} < NOT_DOWNLOADED


@pytest.mark.parametrize("name", FOLDERS)
def test_absent_without_download(name: str, tmp_path: Path, network: list[str]) -> None:
    with pytest.raises(ClbenchError) as error:
        load(name, tmp_path, download=False)
    folder, page = FOLDERS[name]
    text = message(error)
    assert f"{tmp_path / folder} must hold " in text
    assert page in text
    assert ("--stream.download true" in text) == (name not in NOT_DOWNLOADED)
    assert "download=True" not in text
    assert network == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FOLDERS)
def test_absent_and_download_fails(name: str, tmp_path: Path, network: list[str]) -> None:
    with pytest.raises(ClbenchError) as error:
        load(name, tmp_path, download=True)
    folder, page = FOLDERS[name]
    text = message(error)
    assert f"{tmp_path / folder} must hold " in text
    assert page in text
    assert ("no route to host" in text) == (name not in NOT_DOWNLOADED)
    assert bool(network) == (name not in NOT_DOWNLOADED)


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ClbenchError, match="unknown data set 'cifar'; choose one of digits, "):
        load("cifar", tmp_path)


# --- folders of images ------------------------------------------------------------------------


def write_folder(root: Path, counts: dict[str, int], suffix: str = ".jpg") -> Path:
    """A folder with this many images in each class folder."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            writers.write_image(root / name / f"{number}{suffix}")
    return root


def test_image_folder(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", {"owl": 2, "Crow": 1})
    test = write_folder(tmp_path / "test", {"owl": 1, "Crow": 2}, ".PNG")
    writers.write_image(train / "owl" / "more" / "9.jpeg")
    (train / "owl" / "notes.txt").touch()
    data = image_folder(train, test)
    check(data, "image_folder", [0, 1, 1, 1], [0, 0, 1])
    assert data.classes == ("Crow", "owl")
    assert names(data.train.images) == ["Crow/0.jpg", "owl/0.jpg", "owl/1.jpg", "more/9.jpeg"]
    assert names(data.test.images) == ["Crow/0.PNG", "Crow/1.PNG", "owl/0.PNG"]


def test_image_folder_without_test_holds_out_every_fifth(tmp_path: Path) -> None:
    data = image_folder(write_folder(tmp_path / "all", {"a": 5, "b": 10}), None)
    check(data, "image_folder", [0] * 4 + [1] * 8, [0, 1, 1])
    assert names(data.test.images) == ["a/4.jpg", "b/4.jpg", "b/9.jpg"]


def test_image_folder_too_small_to_hold_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "all", {"a": 5, "b": 4})
    with pytest.raises(ClbenchError, match=r"fewer than 5 images.*: b; ") as error:
        image_folder(root, None)
    message(error)


def test_image_folder_missing(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", {"a": 1})
    for arguments in ((tmp_path / "none", train), (train, tmp_path / "none")):
        with pytest.raises(ClbenchError, match=r"none does not exist or is not a folder"):
            image_folder(*arguments)


def test_image_folder_without_classes(tmp_path: Path) -> None:
    writers.write_image(tmp_path / "1.jpg")
    with pytest.raises(ClbenchError, match="has no class folders"):
        image_folder(tmp_path, None)


def test_image_folder_with_empty_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "train", {"a": 1, "b": 0, "c": 0})
    with pytest.raises(ClbenchError, match=r"class folders without images in .*train: b, c; "):
        image_folder(root, None)


def test_image_folder_with_different_classes(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", {"a": 1, "b": 1})
    test = write_folder(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(ClbenchError, match=r"only in .*train: b; only in .*test: c; ") as error:
        image_folder(train, test)
    message(error)
    smaller = write_folder(tmp_path / "smaller", {"a": 1})
    with pytest.raises(ClbenchError, match=r"only in .*smaller: none; "):
        image_folder(train, smaller)


def test_long_lists_of_names_are_cut(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "train", {f"class_{i:02d}": 0 for i in range(12)})
    with pytest.raises(ClbenchError, match="class_08, class_09 and 2 more; "):
        image_folder(root, None)


def test_imagenet_validation_labels_are_the_true_indices(tmp_path: Path) -> None:
    # tench, hen and toilet tissue: the first, the ninth and the last class of the thousand
    counts = {"n15075141": 1, "n01440764": 2, "n01514859": 1}
    part = imagenet_validation(write_folder(tmp_path / "val", counts, ".JPEG"))
    assert part.labels.dtype == np.int64
    assert part.labels.tolist() == [0, 0, 8, 999]
    assert names(part.images)[2:] == ["n01514859/0.JPEG", "n15075141/0.JPEG"]


def test_imagenet_validation_errors(tmp_path: Path) -> None:
    with pytest.raises(ClbenchError, match=r"none does not exist.*WordNet id"):
        imagenet_validation(tmp_path / "none")
    flat = tmp_path / "flat"
    writers.write_image(flat / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ClbenchError, match=r"no class folders.*n01440764"):
        imagenet_validation(flat)
    wrong = write_folder(tmp_path / "wrong", {"n01440764": 1, "tench": 1})
    with pytest.raises(ClbenchError, match="not ImageNet-1k classes: tench; ") as error:
        imagenet_validation(wrong)
    message(error)
    empty = write_folder(tmp_path / "empty", {"n01440764": 1, "n01514859": 0})
    with pytest.raises(ClbenchError, match=r"without images in .*empty: n01514859; "):
        imagenet_validation(empty)
