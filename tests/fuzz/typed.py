"""What people write: recipes, suites, the Trainer's arguments, and command lines."""

from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzz import odd, wrong
from fuzz.base import METHODS, SUITE, Base, written
from fuzz.case import Case, refused
from fuzz.judge import nonsense


def recipes(random: Random, folder: Path, base: Base) -> Case:
    """A recipe with one to three things wrong, or its text damaged; run if it is taken."""
    values = base.recipe()
    if random.random() < 0.5:
        values["methods"] = dict(
            random.sample(sorted(METHODS.items()), random.choice((0, 1, 1, 2)))
        )
    way = random.random()
    if way < 0.2:
        text = yaml.safe_dump(values, sort_keys=False)
        (folder / "r.yaml").write_bytes(odd.text(text, random))
        return Case(("--config", "r.yaml", "--output", "out"))
    if way < 0.5:
        wrong.field(values, random)
        written(values, folder / "r.yaml")
        return Case(("--config", "r.yaml", "--output", "out"), "refuse")
    if way < 0.6:
        task = random.choice(("4, 5", "4, 5", "nobody", "", "0"))
        values["per_task"] = {
            task: {"optimizer": {"lr": 0.1}, "steps": 2, "augment": {"flip": True}}
        }
    for _ in range(random.choice((1, 1, 2, 3))):
        values = odd.spoil(values, random)
    written(values, folder / "r.yaml")
    stop = () if _short(values) else ("--print_config",)
    return refused(("--config", "r.yaml", "--output", "out", *stop), nonsense(values))


def _short(values: dict[str, Any]) -> bool:
    """Whether a recipe, if it is taken, runs for no more than a moment."""
    stream, images, model = (values.get(key) for key in ("stream", "images", "model"))
    return (
        values.get("steps") == 2
        and "epochs" not in values
        and isinstance(stream, dict)
        and stream.get("name") == "split_digits"
        and stream.get("first_tasks") == 1
        and isinstance(images, dict)
        and images.get("size") == 8
        and isinstance(model, dict)
        and model.get("backbone") == "tiny_cnn"
        and model.get("weights") == "none"
    )


WORDS = (
    "--config", "default.yaml", "--seed", "1", "--steps", "2", "--optimizer.lr", "0.1",
    "--methods.sfa.p", "0.9", "--methods", "{}", "--output", "out", "--stream.tasks", "2",
    "--name", "mine", "--data_dir", "data", "--model.weights", "none", "--images.size=8",
    "--resume", "--stream.classes", "[[1, 2], [3]]", "--per_task", "{'4, 5': {steps: 2}}",
    "--trainer", "{devices: 1}", "--trainer.precision", "bf16-mixed", "--model.options", "{}",
)  # fmt: skip
COMMANDS = (
    (), ("compare", "digits", "--jobs", "2"), ("report", "RUN", "--output", "page"), ("train",),
    ("sweep", "RUN", "--alpha", "0:1:0.5"), ("reproduce", "sfa", "--seeds", "0"),
    ("compare", "digits", "--launcher", "slurm", "--slurm.time", "1:00:00", "--slurm.memory", "4"),
    ("report", "RUN", "RUN", "--title", "mine"), ("sweep", "RUN", "--alpha", "0.1,0.5"),
    ("sweep", "RUN", "--density", "0.5", "--by", "class_incremental", "--anchor", "previous"),
    ("--output", "out", "--resume"), ("--list",), ("--version",), ("--help",),
)  # fmt: skip
NOT_VALUES = (
    "0:1:0", "1:0:0.1", "0:1:-0.1", "nan", "0:nan:1", "inf", "0:1", "::", ",", "0,,1", "2", "-1",
    "0:1:1e-9", "1e999999", "0:1e999999:1", "٠:١:١", "0:1:0.1:2", "", " ", "0,5;1", "0x1",
)  # fmt: skip
#: What keeps a command from taking its time: only its words are tried.
STOPS = {"compare": "--help", "reproduce": "--help", "report": "", "sweep": ""}


def words(random: Random, folder: Path, base: Base) -> Case:
    """A command line with words that are odd, gone, doubled or in another order."""
    command = [w.replace("RUN", str(base.run)) for w in random.choice(COMMANDS)]
    way = random.random()
    if way < 0.1:
        return Case(("sweep", str(base.run), "--alpha", random.choice(NOT_VALUES)), "refuse")
    if way < 0.25:
        return _misspelt(random)
    given = [*command, *(random.choice(WORDS) for _ in range(random.randrange(5)))]
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(given) + 1)
        change = random.randrange(5)
        if change == 0:
            given.insert(at, _typed(random))
        elif change == 1 and given:
            del given[at - 1]
        elif change == 2 and given:
            given[at - 1] = odd.misspell(given[at - 1], random)
        elif change == 3 and given:
            given[at - 1] = _typed(random)
        else:
            random.shuffle(given)
    stop = STOPS.get(given[0] if given else "", "--print_config")
    return Case((*given, *([stop] if stop else [])))


def _typed(random: Random) -> str:
    """What a command line can hold: no NUL, and bytes that are no UTF-8 as Python has them."""
    return random.choice(odd.WORDS).replace("\x00", "").replace("\ud800", "\udce9")


def _misspelt(random: Random) -> Case:
    """A field that there is not, or a value that it cannot have."""
    field, value = random.choice(
        (("--seed", "1"), ("--optimizer.lr", "0.1"), ("--steps", "2"), ("--methods.sfa.p", "0.5"))
    )
    if random.random() < 0.5:
        at = random.randrange(2, len(field))
        field = random.choice(
            (field[:at] + "q" + field[at:], field + "s", field[:2] + "x." + field[2:])
        )
    else:
        value = random.choice(
            ("-1", "nan", "", "x", "[1]", "{a: 1}", "0,5", "1.5.2", "1 2", "٣", "null")
        )
    alone = [field] if random.random() < 0.2 else [field, value]
    return Case(("--config", "default.yaml", *alone, "--print_config"), "refuse")


def suites(random: Random, folder: Path, base: Base) -> Case:
    """A suite with one to three things wrong; its runs are named, none is started."""
    values: dict[str, Any] = odd.copy.deepcopy({**SUITE, "base": base.recipe()})
    _vary(values, random)
    sure = random.random() < 0.4
    if sure:
        wrong.suite(values, random)
    else:
        for _ in range(random.choice((1, 1, 2, 3))):
            values = odd.spoil(values, random)
    written(values, folder / "s.yaml")
    return refused(("*suite", "s.yaml"), sure or nonsense(values))


def _vary(values: dict[str, Any], random: Random) -> None:
    """Sections that suites may have, and do not need."""
    if random.random() < 0.3:
        values["streams"] = ["split_digits", {"name": "split_digits", "tasks": 3}]
    if random.random() < 0.3:
        values["backbones"] = [{"options": {"width": 8}}, {"options": {"width": 4}}]
    if random.random() < 0.2:
        values["methods"]["own"] = {"config": "default"}
    if random.random() < 0.2:
        values["overrides"]["sfa"] = {"per_task": {"4, 5": {"steps": 2}}}
    if random.random() < 0.3:
        values["tune"]["space"] = {"optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}}
    if random.random() < 0.2:
        del values["tune"]


def trainers(random: Random, folder: Path, base: Base) -> Case:
    """An odd value of an argument of Lightning's Trainer; the recipe is run."""
    import inspect

    import lightning

    names = sorted(inspect.signature(lightning.Trainer).parameters)
    sure, fine = random.random() < 0.4, random.random() < 0.2
    if fine:
        name = random.choice(sorted(SENSE))
        chosen = {name: random.choice(SENSE[name])}
    elif sure:
        name = random.choice(sorted(wrong.TRAINER))
        chosen = {name: random.choice(wrong.TRAINER[name])}
    else:
        chosen = {random.choice(names): _argument(random) for _ in range(random.choice((1, 1, 2)))}
    values = base.recipe() | {"process_timeout": 3.0}  # other nodes never come
    values["trainer"] |= chosen
    written(values, folder / "r.yaml")
    words = ("--config", "r.yaml", "--output", "out")
    return Case(words, "take") if fine else refused(words, sure or nonsense(chosen))


#: What must be taken.
SENSE: dict[str, tuple[Any, ...]] = {
    "gradient_clip_val": (0.5, 1, 0),
    "precision": ("bf16-mixed", 32, "32"),
    "log_every_n_steps": (1, 50),
    "accumulate_grad_batches": (1, 2),
    "deterministic": (True, "warn", None),
    "benchmark": (False, None),
    "detect_anomaly": (True, False),
    "enable_progress_bar": (None, True),
    "devices": (1, "1", "auto"),
    "strategy": ("auto",),
}


def _argument(random: Random) -> Any:
    """What Lightning takes for one argument or another, or an odd value."""
    if random.random() < 0.5:
        return odd.value(random)
    return random.choice(
        ("simple", "pytorch", "norm", "value", "warn", "16-mixed", "bf16-true", "64-true",
         "32-true", "ddp", "fsdp", "deepspeed", "dp", "ddp_spawn", "cuda", "mps", "auto", 1, 2, "1",
         "2", "-1", "0,1", "transformer-engine", "single_device", "xla", "bf16", "16", 64,
         "advanced", "DDP", "CPU")
    )  # fmt: skip
