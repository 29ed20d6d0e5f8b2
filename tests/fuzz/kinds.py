"""What is given to clbench, by kind: each makes one case in an empty folder."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzz import odd
from fuzz.base import SUITE, Base, copied, pick, written
from fuzz.judge import nonsense


@dataclass(frozen=True)
class Case:
    """Words of a command line, and whether what they ask for makes no sense."""

    words: tuple[str, ...]
    refuse: bool = False


def recipes(random: Random, folder: Path, base: Base) -> Case:
    """A recipe with one to three things wrong, or its text damaged; run if it is taken."""
    values = base.recipe()
    if random.random() < 0.25:
        text = yaml.safe_dump(values, sort_keys=False)
        (folder / "r.yaml").write_bytes(odd.text(text, random))
        return Case(("--config", "r.yaml", "--output", "out"))
    for _ in range(random.choice((1, 1, 2, 3))):
        values = odd.spoil(values, random)
    written(values, folder / "r.yaml")
    stop = () if _short(values) else ("--print_config",)
    return Case(("--config", "r.yaml", "--output", "out", *stop), nonsense(values))


def _short(values: dict[str, Any]) -> bool:
    """Whether a recipe, if it is taken, runs for no more than a moment."""
    stream, images = values.get("stream"), values.get("images")
    return (
        values.get("steps") == 2
        and "epochs" not in values
        and isinstance(stream, dict)
        and stream.get("name") == "split_digits"
        and stream.get("first_tasks") == 1
        and isinstance(images, dict)
        and images.get("size") == 8
    )


WORDS = (
    "--config", "default.yaml", "--seed", "1", "--steps", "2", "--optimizer.lr", "0.1",
    "--methods.sfa.p", "0.9", "--methods", "{}", "--output", "out", "--stream.tasks", "2",
    "--name", "mine", "--data_dir", "data", "--model.weights", "none", "--images.size=8",
)  # fmt: skip
COMMANDS = (
    (), ("compare", "digits", "--jobs", "2"), ("report", "run", "--output", "page"),
    ("sweep", "run", "--alpha", "0:1:0.5"), ("reproduce", "sfa", "--seeds", "0"), ("train",),
)  # fmt: skip


def words(random: Random, folder: Path, base: Base) -> Case:
    """A command line with words that are odd, gone, doubled or in another order."""
    command = list(random.choice(COMMANDS))
    given = [*command, *(random.choice(WORDS) for _ in range(random.randrange(5)))]
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(given) + 1)
        change = random.randrange(4)
        if change == 0:
            # What a command line can hold: no NUL, and bytes that are no UTF-8 as Python has them.
            word = random.choice(odd.WORDS).replace("\x00", "").replace("\ud800", "\udce9")
            given.insert(at, word)
        elif change == 1 and given:
            del given[at - 1]
        elif change == 2 and given:
            given[at - 1] = odd.misspell(given[at - 1], random)
        else:
            random.shuffle(given)
    # Nothing is to run that takes its time: only the words are tried.
    stops = {"compare": "--help", "reproduce": "--help", "report": "", "sweep": ""}
    stop = stops.get(given[0] if given else "", "--print_config")
    return Case((*given, *([stop] if stop else [])))


def suites(random: Random, folder: Path, base: Base) -> Case:
    """A suite with one to three things wrong; its runs are named, none is started."""
    values: dict[str, Any] = {**SUITE, "base": base.recipe()}
    for _ in range(random.choice((1, 1, 2, 3))):
        values = odd.spoil(values, random)
    written(values, folder / "s.yaml")
    return Case(("*suite", "s.yaml"), nonsense(values))


def trainers(random: Random, folder: Path, base: Base) -> Case:
    """An odd value of an argument of Lightning's Trainer; the recipe is run."""
    import inspect

    import lightning

    names = sorted(inspect.signature(lightning.Trainer).parameters)
    chosen = {random.choice(names): odd.value(random) for _ in range(random.choice((1, 1, 2)))}
    values = base.recipe()
    values["trainer"] |= chosen
    written(values, folder / "r.yaml")
    return Case(("--config", "r.yaml", "--output", "out"), nonsense(chosen))


def folders(random: Random, folder: Path, base: Base) -> Case:
    """A finished run's folder, damaged or made up, to report on, to sweep or to resume."""
    broken = copied(base.run, folder / "broken")
    for _ in range(random.choice((1, 1, 2, 4))):
        _damage(random, broken)
    return Case(
        random.choice(
            (
                ("report", str(base.run), "broken", "--output", "page"),
                ("sweep", "broken", "--alpha", "0:1:0.5"),
                ("--resume", "--output", "broken", "--config", "broken/config.yaml"),
            )
        )
    )


def _damage(random: Random, broken: Path) -> None:
    path = pick(broken, random)
    if random.random() < 0.4:
        path = broken / random.choice(("record.jsonl", "config.yaml", "environment.json"))
    kind = random.randrange(8)
    if kind <= 2 and path.is_file():
        path.write_bytes(odd.data(path.read_bytes(), random))
    elif kind == 3:
        path.unlink(missing_ok=True)
    elif kind == 4:
        _other_file(path, random)
    elif (broken / "record.jsonl").is_file():
        _other_record(broken / "record.jsonl", random)


def _other_file(path: Path, random: Random) -> None:
    path.unlink(missing_ok=True)
    kind = random.randrange(5)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(random.choice(("/dev/zero", "/nowhere", path.name, "..")))
    elif kind == 3:
        bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
        for one, two in zip("abcdefgh", "bcdefghi", strict=True):
            bomb += f"{two}: &{two} [{', '.join(['*' + one] * 9)}]\n"
        path.write_text(bomb, encoding="utf-8")
    else:
        path.write_text("[" * 100_000, encoding="utf-8")


def _other_record(path: Path, random: Random) -> None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        at = random.randrange(len(lines))
        event = json.loads(lines[at])
        lines[at] = json.dumps(odd.spoil(event, random))
    except (ValueError, UnicodeError, IndexError, RecursionError):
        return  # damaged before
    if random.random() < 0.2:
        random.shuffle(lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")


def images(random: Random, folder: Path, base: Base) -> Case:
    """A folder of images in which something is not an image, or lies where none should."""
    copied(base.images, folder / "images")
    for _ in range(random.choice((1, 1, 2, 4))):
        _disturb(random, folder / "images")
    values = base.recipe() | {
        "stream": {
            "name": "image_folder",
            "train": "images/train",
            "test": "images/test",
            "tasks": 2,
            "first_tasks": 1,
        },
        "data_dir": str(folder / "data"),
    }
    written(values, folder / "r.yaml")
    return Case(("--config", "r.yaml", "--output", "out"))


def _disturb(random: Random, root: Path) -> None:
    path = pick(root, random)
    place = random.choice([path.parent, path.parent.parent, root])
    kind = random.randrange(9)
    if kind <= 1:
        path.write_bytes(odd.data(path.read_bytes(), random))
    elif kind == 2:
        path.unlink()
    elif kind == 3:
        path.rename(path.with_name(random.choice(STRAY)))
    elif kind == 4:
        path.unlink()
        random.choice((os.mkfifo, Path.mkdir, lambda p: Path(p).symlink_to("/nowhere")))(path)
    elif kind == 5:
        (place / random.choice(STRAY)).write_bytes(odd.data(path.read_bytes(), random))
    elif kind == 6:
        stray = place / random.choice((".ipynb_checkpoints", "__MACOSX", "$x_{", "é", "a b", "-x"))
        stray.mkdir(exist_ok=True)
        (stray / "0.png").write_bytes(path.read_bytes())
    elif kind == 7:
        odd_image(path, random)
    elif not (place / "loop").is_symlink():
        (place / "loop").symlink_to(root)


STRAY = (
    "._0.png",
    ".DS_Store",
    "Thumbs.db",
    "9.jfif",
    "9.JPG",
    "9.txt",
    "9.png.part",
    "9",
    "é.png",
)


def odd_image(path: Path, random: Random) -> None:
    """An image of another mode, size, or format than the others."""
    from PIL import Image

    mode = random.choice(("1", "L", "P", "RGBA", "LA", "CMYK", "I", "F", "I;16"))
    size = random.choice(((1, 1), (1, 500), (300, 2), (12, 10)))
    kinds = {"CMYK": "JPEG", "I": "TIFF", "F": "TIFF", "I;16": "PNG"}
    Image.new(mode, size, 3).save(path, kinds.get(mode, "PNG"))


def weights(random: Random, folder: Path, base: Base) -> Case:
    """A weights file that is damaged, or of something else; the recipe is run with it."""
    source = random.choice(base.weights)
    path = folder / f"w{random.choice((source.suffix, source.suffix, '.ckpt', '.tar'))}"
    content = source.read_bytes()
    for _ in range(random.choice((1, 1, 3))):
        content = odd.data(content, random)
    path.write_bytes(content)
    values = base.recipe()
    values["model"]["weights"] = str(path)
    written(values, folder / "r.yaml")
    return Case(("--config", "r.yaml", "--output", "out"))


#: Every kind, and how many cases of it `make fuzz` tries.
KINDS: dict[str, tuple[Callable[[Random, Path, Base], Case], int]] = {
    "recipes": (recipes, 1000),
    "words": (words, 500),
    "suites": (suites, 200),
    "trainers": (trainers, 200),
    "folders": (folders, 200),
    "images": (images, 200),
    "weights": (weights, 50),
}
