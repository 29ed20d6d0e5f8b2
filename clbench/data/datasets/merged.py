"""Image files of the model-merging literature that no other stream has.

Parts are those of its programs, so that the test images are those of its tables. The validation
parts that RESISC45, PCam and Rendered SST2 have besides are not used, as they are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision import datasets as tv

from clbench.data.datasets import laid_out
from clbench.data.datasets.base import (
    DataSet,
    Source,
    from_torchvision,
    labelled,
    require_files,
)
from clbench.data.datasets.lists import lines_of
from clbench.data.datasets.packed import Packed
from clbench.data.datasets.sizes import as_published

GTSRB = Source(
    "GTSRB",
    "https://benchmark.ini.rub.de/ (GTSRB-Training_fixed.zip, GTSRB_Final_Test_Images.zip and "
    "GTSRB_Final_Test_GT.zip)",
    "gtsrb",
    "GTSRB/Training/<class>/*.ppm, GTSRB/Final_Test/Images/*.ppm and GT-final_test.csv",
    True,
)
RESISC45 = Source(
    "RESISC45",
    "https://huggingface.co/datasets/torchgeo/resisc45 (NWPU-RESISC45.zip and the lists)",
    "resisc45",
    "resisc45-train.txt, resisc45-test.txt and NWPU-RESISC45/<class>/*.jpg",
    False,
)
PCAM = Source(
    "PCam",
    "https://github.com/basveeling/pcam (the .h5.gz files)",
    "pcam",
    "camelyonpatch_level_2_split_train_x.h5, …_train_y.h5, …_test_x.h5 and …_test_y.h5",
    False,
)
RENDERED_SST2 = Source(
    "Rendered SST2",
    "https://github.com/openai/CLIP/blob/main/data/rendered-sst2.md",
    "rendered-sst2",
    "train/<class>/*.png and test/<class>/*.png for negative and positive",
    True,
)
EUROSAT_SPLITS = Packed(
    "eurosat_splits",
    Source(
        "EuroSAT in the merging papers' folders",
        "https://github.com/mlfoundations/task_vectors/issues/1",
        "EuroSAT_splits",
        "train/<class>/ and test/<class>/ with the images",
        False,
    ),
)


def gtsrb(root: Path, download: bool) -> DataSet:
    """GTSRB: 43 German traffic signs, 26,640 training and 12,630 test images.

    Source: Stallkamp, Schlipsing, Salmen and Igel, "The German Traffic Sign Recognition Benchmark",
    IJCNN 2011. The training part is that of the online competition, as torchvision and the merging
    papers have it (the final one has 39,209 images), the test part the final one.

    Raises:
        ClbenchError: files absent, disagreeing, or not to be downloaded.
    """
    parts = []
    for title, split in (("training", "train"), ("test", "test")):
        found = from_torchvision(GTSRB, root, download, tv.GTSRB, [], split=split)
        paths, labels = [Path(path) for path, _ in found._samples], [y for _, y in found._samples]
        if split == "train":  # by the folder, 00000 … 00042: torchvision counts what is there
            labels = [_number(path.parent.name) for path in paths]
        require_files(GTSRB, root, paths)
        parts.append(labelled(GTSRB, title, paths, labels, 43))
    made = DataSet("gtsrb", parts[0], parts[1], tuple(str(label) for label in range(43)))
    return as_published(made, GTSRB, root)


def resisc45(root: Path, download: bool) -> DataSet:
    """RESISC45: 45 scenes from above, 18,900 training and 6,300 test images of 256 x 256 pixels.

    Source: Cheng, Han and Lu, "Remote Sensing Image Scene Classification: Benchmark and State of
    the Art", Proceedings of the IEEE 105(10), 2017. There is no official split; the lists are those
    of Neumann et al., "In-domain representation learning for remote sensing", 2019.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: files absent, unreadable or disagreeing.
    """
    folder = root / RESISC45.folder
    listed = [
        [words[0] for words in lines_of(RESISC45, root, folder / f"resisc45-{part}.txt", 1)]
        for part in ("train", "test")
    ]
    # "airplane_001.jpg", "baseball_diamond_001.jpg"
    called = [[file.rpartition("_")[0] for file in files] for files in listed]
    classes = tuple(sorted({*called[0], *called[1]}))
    if both := sorted({*listed[0]} & {*listed[1]}):
        raise RESISC45.disagree(f"{len(both)} images are in both lists, the first is {both[0]}")
    parts = []
    for title, files, names in zip(("training", "test"), listed, called, strict=True):
        place = folder / "NWPU-RESISC45"
        paths = [place / name / file for name, file in zip(names, files, strict=True)]
        require_files(RESISC45, root, paths)
        labels = [classes.index(name) for name in names]
        parts.append(labelled(RESISC45, title, paths, labels, len(classes)))
    return as_published(DataSet("resisc45", parts[0], parts[1], classes), RESISC45, root)


def pcam(root: Path, download: bool) -> DataSet:
    """PCam: 262,144 training and 32,768 test images of lymph nodes, 96 x 96 pixels, two classes.

    Source: Veeling, Linmans, Winkens, Cohen and Welling, "Rotation Equivariant CNNs for Digital
    Pathology", MICCAI 2018; official split. The arrays are larger than most memories: the images
    are laid out as files in ``root/torchvision``, once, which needs h5py.

    Args:
        root: the data root.
        download: without effect, its files lie where programs are not let.

    Raises:
        ClbenchError: files absent or unreadable, or h5py is missing.
    """
    folder = laid_out.place_of(root, "torchvision", "PCAM", {"parts": ["train", "test"]})
    made = laid_out.read(folder, "pcam")
    if made is None:
        train, test = (
            from_torchvision(PCAM, root, False, tv.PCAM, [], split=split)
            for split in ("train", "test")
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        classes = ("normal", "tumour")
        made = laid_out.lay_out(folder, "pcam", _patches(train), _patches(test), classes)
    return as_published(made, PCAM, root)


def rendered_sst2(root: Path, download: bool) -> DataSet:
    """Rendered SST2: 6,920 training and 1,821 test images of sentences, negative or positive.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    ICML 2021; official split.

    Raises:
        ClbenchError: files absent or not to be downloaded.
    """
    archives = [(root / "rendered-sst2.tgz", tv.RenderedSST2._MD5)]
    parts = []
    for title, split in (("training", "train"), ("test", "test")):
        found = from_torchvision(
            RENDERED_SST2, root, download, tv.RenderedSST2, archives, split=split
        )
        paths = [Path(path) for path, _ in found._samples]
        labels = [label for _, label in found._samples]
        parts.append(labelled(RENDERED_SST2, title, paths, labels, len(found.classes)))
    classes = ("negative", "positive")
    return as_published(DataSet("rendered_sst2", parts[0], parts[1], classes), RENDERED_SST2, root)


def _number(name: str) -> int:
    """The class of a folder, or one that there is not."""
    return int(name) if name.isascii() and name.isdecimal() else -1


def _patches(part: Any) -> Iterator[laid_out.Sample]:
    """Images and labels of torchvision's PCAM, from files that are opened once."""
    names = part._FILES[part._split]
    files = [part.h5py.File(part._base_folder / names[what][0]) for what in ("images", "targets")]
    with files[0], files[1]:
        for image, label in zip(files[0]["x"], files[1]["y"], strict=True):
            yield Image.fromarray(image), int(label.item())
