"""Writers of tiny data sets in the on-disk formats of the real ones: text lists and folders."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat
from writers import write_image

#: Sessions with their objects.
Frames = Sequence[tuple[int, Sequence[int]]]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_folders(root: Path, counts: Mapping[str, int], ending: str = ".jpg") -> None:
    """Write class folders with so many images each."""
    for name, count in counts.items():
        for number in range(count):
            write_image(root / name / f"{name[:3]}_{number}{ending}")


def write_cub200(root: Path, rows: Sequence[tuple[str, int, int]], classes: Sequence[str]) -> None:
    """Write CUB-200-2011; rows are (file below images, class from 1, 1 for training)."""
    base = root / "CUB_200_2011"
    numbered = list(enumerate(rows, 1))
    write_lines(base / "classes.txt", (f"{n} {name}" for n, name in enumerate(classes, 1)))
    write_lines(base / "images.txt", (f"{n} {row[0]}" for n, row in numbered))
    write_lines(base / "image_class_labels.txt", (f"{n} {row[1]}" for n, row in numbered))
    write_lines(base / "train_test_split.txt", (f"{n} {row[2]}" for n, row in numbered))
    for file, _, _ in rows:
        write_image(base / "images" / file)


def write_tiny_imagenet(root: Path, wnids: Sequence[str], train: int, val: Sequence[str]) -> None:
    """Write Tiny-ImageNet: so many training images a class, and the wnid of each of ``val``."""
    base = root / "tiny-imagenet-200"
    write_lines(base / "wnids.txt", wnids)
    write_lines(base / "words.txt", (f"{wnid}\tthing" for wnid in wnids))
    for wnid in wnids:
        names = [f"{wnid}_{number}.JPEG" for number in range(train)]
        boxes = (f"{name}\t0\t0\t3\t2" for name in names)
        write_lines(base / "train" / wnid / f"{wnid}_boxes.txt", boxes)
        for name in names:
            write_image(base / "train" / wnid / "images" / name)
    rows = (f"val_{n}.JPEG\t{wnid}\t0\t32\t44\t62" for n, wnid in enumerate(val))
    write_lines(base / "val" / "val_annotations.txt", rows)
    for number in range(len(val)):
        write_image(base / "val" / "images" / f"val_{number}.JPEG")


def write_sun397(
    root: Path, classes: Sequence[str], train: Sequence[str], test: Sequence[str]
) -> None:
    """Write SUN397 with the first partition; names start with a slash, as in the original."""
    base = root / "SUN397"
    write_lines(base / "ClassName.txt", classes)
    write_lines(base / "Training_01.txt", train)
    write_lines(base / "Testing_01.txt", test)
    for file in (*train, *test):
        write_image(base / file.lstrip("/"))


def write_domainnet(root: Path, domains: Sequence[str], classes: Sequence[str]) -> None:
    """Write DomainNet: two training images and a test image a class and domain."""
    base = root / "domainnet"
    for domain in domains:
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for label, name in enumerate(classes):
            for number in range(3):
                file = f"{domain}/{name}/{domain}_{label:03d}_{number:06d}.jpg"
                lists["test" if number == 2 else "train"].append(f"{file} {label}")
                write_image(base / file)
        for part, lines in lists.items():
            write_lines(base / f"{domain}_{part}.txt", lines)


def write_core50(root: Path, sessions: int = 11, objects: int = 50) -> None:
    """Write CORe50 with one (empty) frame of each object in each session."""
    for session in range(1, sessions + 1):
        for item in range(1, objects + 1):
            folder = root / "core50_128x128" / f"s{session}" / f"o{item}"
            folder.mkdir(parents=True)
            (folder / f"C_{session:02d}_{item:02d}_000.png").touch()


def write_core50_lists(root: Path, scenario: str, run: int, batches: Sequence[Frames]) -> Path:
    """Write a run's lists: session and objects, from 1, of each batch; one frame an object.

    NC counts the objects in the order of the batches, the other two from 0.
    """
    place = root / "batches_filelists" / f"{scenario}_inc" / f"run{run}"
    counted = list(dict.fromkeys(item for batch in batches for _, items in batch for item in items))
    number = {item: place if scenario == "NC" else item - 1 for place, item in enumerate(counted)}

    def lines(frames: Frames) -> Iterable[str]:
        for session, items in frames:
            for item in items:
                yield f"s{session}/o{item}/C_{session:02d}_{item:02d}_000.png {number[item]}"

    for batch, frames in enumerate(batches):
        write_lines(place / f"train_batch_{batch:02d}_filelist.txt", lines(frames))
    tests = [(session, sorted(counted)) for session in (3, 7, 10)]
    write_lines(place / "test_filelist.txt", lines(tests))
    return place


def write_svhn(folder: Path, name: str, images: np.ndarray, labels: Sequence[int]) -> Path:
    """Write one file of SVHN: images (N, 32, 32, 3), and 10 for the digit 0."""
    folder.mkdir(parents=True, exist_ok=True)
    column = np.array(labels, dtype=np.uint8)[:, None]
    savemat(folder / name, {"X": images.transpose(1, 2, 3, 0), "y": column})
    return folder / name


def write_gtsrb(root: Path, train: Mapping[str, int], test: Sequence[tuple[int, int]]) -> None:
    """Write GTSRB: so many training images a class folder, and (number, class) of each test image.

    Beside the images of a class lies a list of their boxes.
    """
    base = root / "gtsrb"
    picture = Image.new("RGB", (4, 3), (200, 100, 50))
    for name, count in train.items():
        rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
        place = base / "GTSRB" / "Training" / name
        write_lines(place / f"GT-{name}.csv", rows)
        for number in range(count):
            picture.save(place / f"00000_{number:05d}.ppm")
    (base / "GTSRB" / "Final_Test" / "Images").mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number, label in test:
        picture.save(base / "GTSRB" / "Final_Test" / "Images" / f"{number:05d}.ppm")
        rows.append(f"{number:05d}.ppm;4;3;0;0;4;3;{label}")
    write_lines(base / "GT-final_test.csv", rows)


def write_resisc45(root: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """Write RESISC45 with its lists by part, such as ``airplane_001.jpg``."""
    base = root / "resisc45"
    for part, files in lists.items():
        write_lines(base / f"resisc45-{part}.txt", files)
        for file in files:
            write_image(base / "NWPU-RESISC45" / file.rpartition("_")[0] / file)


def write_stl10(
    folder: Path, names: Sequence[str], *parts: tuple[np.ndarray, Sequence[int]]
) -> None:
    """Write STL-10: images (N, 96, 96, 3) and labels from 1 of the training and the test part."""
    folder.mkdir(parents=True)
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        # Columns first, one channel after the other.
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{part}_y.bin").write_bytes(np.array(labels, dtype=np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(bytes(3 * 96 * 96))
    write_lines(folder / "class_names.txt", names)


def write_fer2013(path: Path, images: np.ndarray, rows: Sequence[tuple[object, str]]) -> Path:
    """Write one of FER2013's tables: images (N, 48, 48), and label and part of each."""
    title = {
        "icml_face_data.csv": "emotion, Usage, pixels",
        "train.csv": "emotion,pixels",
        "test.csv": "pixels",
    }.get(path.name, "emotion,pixels,Usage")
    lines = [title]
    for image, (label, part) in zip(images, rows, strict=True):
        cells = {"emotion": str(label), "pixels": " ".join(map(str, image.ravel())), "Usage": part}
        lines.append(",".join(cells[name.strip()] for name in title.split(",")))
    write_lines(path, lines)
    return path


def write_pcam(h5py: Any, folder: Path, part: str, images: np.ndarray, labels: list[int]) -> None:
    """Write a part of PCam: images (N, 96, 96, 3)."""
    folder.mkdir(exist_ok=True)
    name = f"camelyonpatch_level_2_split_{part}"
    with h5py.File(folder / f"{name}_x.h5", "w") as file:
        file.create_dataset("x", data=images, compression="gzip")
    with h5py.File(folder / f"{name}_y.h5", "w") as file:
        file.create_dataset("y", data=np.array(labels, dtype=np.uint8).reshape(-1, 1, 1, 1))
