"""What every command takes: one table of options each, for reading them and for the help."""

from __future__ import annotations

from dataclasses import replace

from clbench.cli.options import (
    PLUGINS,
    Command,
    Option,
    WordReader,
    folder,
    one_of,
    real_number,
    whole_number,
)
from clbench.cli.words import value_of
from clbench.launch.slurm import Settings
from clbench.record.record import SCENARIOS

_PLUGINS = Option(
    PLUGINS,
    "files (my_method.py) or modules with methods, streams … of your own: their code is run; "
    "docs/plugins.md",
    "FILE",
    many=True,
)
TRAIN = Command(
    "train",
    (
        Option(
            "config",
            "configs, merged from left to right: files, or names in configs/",
            "FILE",
            many=True,
        ),
        Option(
            "output", "the run folder (default: runs/<stream>-<methods>-seed<seed>)", "DIR", folder
        ),
        _PLUGINS,
        Option("resume", "go on after the last finished task"),
        Option("print_config", "print the whole recipe, with comments, and stop", prints=True),
        Option(
            "dry_run",
            "print what the run will need (steps, images, disk, memory, time), and stop",
            prints=True,
        ),
        Option("list", "list streams, methods, loggers and backbones, and stop", prints=True),
        Option("version", "print the version, and stop", prints=True),
    ),
    fields=True,
)


def _as(annotation: object) -> WordReader:
    return lambda option, word: value_of(option, [word], [annotation])


def _slurm() -> list[Option]:
    """A table row for each setting of the cluster."""
    rows = []
    for name, info in Settings.model_fields.items():
        default = info.get_default(call_default_factory=True)
        about = f"{info.description}{f' [{default}]' if default else ''}"
        rows.append(Option(f"slurm.{name}", about, "VALUE", _as(info.annotation), group=_CLUSTER))
    return rows


_CLUSTER = "what to ask of SLURM for each run (texts as typed, other values as YAML)"
_FIELDS = (
    "Other options override fields of every recipe, as in --epochs 1 --stream.datasets "
    "'[cifar10]'; see clbench --help."
)
#: Options of train that are no fields: read, to be refused.
REFUSED = tuple(
    replace(o, about="") for o in TRAIN.options if o.name not in ("output", "dry_run", PLUGINS)
)
_GRID = (
    Option(
        "jobs",
        "runs side by side (default: 1, on SLURM all that it has room for)",
        "N",
        whole_number,
    ),
    Option("output", "folder (default: runs/<suite>)", "DIR", folder),
    Option("report", "folder of the report (default: in output)", "DIR", folder),
    Option("dry_run", "show the grid and stop"),
    Option("seeds", "in place of the suite's own", "SEED", whole_number, many=True),
    _PLUGINS,
)
_ASKS = Option("yes", "do not ask")
_PLACES = (
    Option("launcher", "local (the default) or slurm", "NAME"),
    Option("slurm", "a YAML file of these, without slurm.", "FILE", folder, group=_CLUSTER),
    *_slurm(),
)
BOARD = Command(
    "board",
    (
        Option("output", "folder of the site (default: board)", "DIR", folder),
        Option("title", "heading of the site (default: clbench board)", "TEXT"),
        Option("data_dir", "the data root, for checks (default: data)", "DIR", folder),
    ),
    "Check all submissions in a folder, and make a static site of boards. docs/board.md",
    Option("folder", "with NAME.clbench.zip, and NAME.verdict.json of yours", "FOLDER", folder),
)
COMPARE = Command(
    "compare",
    (
        *_GRID,
        Option(
            "skip_missing",
            "leave out what lacks data or weights; on a terminal, say what is left and ask",
        ),
        _ASKS,
        *_PLACES,
        *REFUSED,
    ),
    "Run a suite (finished runs are reused, interrupted ones go on) and report.",
    Option("suite", "a YAML file, or its name in suites/", "SUITE"),
    fields=True,
    epilog=_FIELDS,
)
DATA = Command(
    "data",
    (
        Option("data_dir", "the data root (default: data)", "DIR", folder),
        Option("fetch", "download what torchvision can"),
        _PLUGINS,
    ),
    "Say where the files of data sets belong, and whether they are there as they were published; "
    "without a name, a list of all.",
    Option("names", "data sets or streams", "NAMES", many=True, optional=True),
)
EMBED = Command(
    "embed",
    (
        Option("model", "a CLIP model, as open_clip names it (default: ViT-B-16)", "NAME"),
        Option("pretrained", "its weights, as open_clip names them, or a file", "NAME"),
        Option(
            "templates",
            "prompts with {} for the words of a class, whose embeddings are averaged; or openai: "
            "the 80 of CLIP's paper, or simple: 7 of them (default: 'a photo of a {}.')",
            "TEXT",
            many=True,
        ),
        Option("output", "the file (default: texts.npz)", "FILE", folder),
        Option("data_dir", "the data root (default: data)", "DIR", folder),
    ),
    "Write the text embeddings of classes, by which zero_shot measures what CLIP backbones keep. "
    "It needs open_clip (pip install open_clip_torch); runs need the file alone. docs/retention.md",
    Option(
        "classes",
        "a folder of class folders, a data set, imagenet, or a YAML file of words by class",
        "CLASSES",
    ),
)
LIST = Command(
    "list",
    (
        Option("verified", "numbers that papers report, beside those measured here"),
        _PLUGINS,
    ),
    "List streams, methods, loggers and backbones, as train.py --list does; or numbers.",
)
NEW = Command(
    "new",
    (Option("output", "folder (default: here)", "DIR", folder),),
    "Write a method of your own to start from, NAME.py, and its test, test_NAME.py, which passes "
    "as it is. docs/plugins.md goes on from there.",
    Option("what", "method, and its name", "method NAME", many=True),
)
PACK = Command(
    "pack",
    (
        Option("output", "the file, NAME.clbench.zip", "FILE", folder),
        Option("title", "of the submission", "TEXT"),
        Option("authors", "who answer for it, each in quotes", "NAME", many=True),
        Option("contact", "how to reach them", "TEXT"),
        Option("licence", "of the records (default: CC-BY-4.0)", "TEXT"),
        Option("link", "to code or a paper, https://…", "URL"),
        Option("with_plugins", "put the code of plugins in, too"),
        Option("skip_unfinished", "leave out runs that are not finished"),
    ),
    "Put finished runs into one file to hand over: records, recipes, environments, splits and "
    "scores; no weights, no names of people or folders of this machine. docs/submissions.md",
    Option("runs", "run folders, or folders of them", "RUNS", folder, many=True),
)
REPORT = Command(
    "report",
    (
        Option("output", "folder (default: report)", "DIR", folder),
        Option("reference", "method to compare with, as in tables (default: sequential)", "NAME"),
        Option("title", "heading of the page", "TEXT"),
    ),
    "Compare runs by their records alone: a page, tables and figures.",
    Option("runs", "run folders, or folders of them", "RUNS", folder, many=True),
)
REPRODUCE = Command(
    "reproduce",
    (*_GRID, _ASKS, *_PLACES, *REFUSED),
    "Run the suite of a paper, but what lacks data or weights here, and report: "
    "clbench compare --skip_missing.",
    Option("suite", "flow, mofo or sfa", "PAPER"),
    fields=True,
    epilog=_FIELDS,
)
SCORE = Command(
    "score",
    (
        Option(
            "images",
            "test images of each task, for scores over images",
            "N",
            real_number,
            many=True,
        ),
        Option(
            "baseline",
            "accuracy on each task, or one for all, to measure forward transfer from",
            "A",
            real_number,
            many=True,
        ),
        Option(
            "reference",
            "accuracy on each task of networks that had nothing to keep, for intransigence",
            "A",
            real_number,
            many=True,
        ),
        Option("json", "print a JSON object, in fractions"),
    ),
    "Compute every score that follows from an accuracy matrix: a row for the time after each "
    "task, a column for each task, cells empty where nothing was measured. docs/scores.md says "
    "what each is.",
    Option("matrix", "a CSV file, or a run folder", "MATRIX", folder),
)
SOUP = Command(
    "soup",
    (
        Option(
            "by",
            "whose validation accuracy --greedy goes by: task_incremental (the default) or "
            "class_incremental",
            "NAME",
            one_of(*SCENARIOS),
        ),
        Option("greedy", "one more soup, of runs that raise validation accuracy"),
        _PLUGINS,
    ),
    "Average the weights of finished runs of one stream, network and pretrained weights, without "
    "training, and measure the average; reports show it beside the first run.",
    Option("runs", "run folders, with their checkpoints", "RUN", folder, many=True),
)
SWEEP = Command(
    "sweep",
    (
        Option(
            "anchor",
            "what is averaged with, where a method has it: pretrained or previous",
            "NAME",
            one_of("pretrained", "previous"),
        ),
        Option(
            "by",
            "whose validation accuracy picks: task_incremental (the default) or class_incremental",
            "NAME",
            one_of(*SCENARIOS),
        ),
        Option(
            "methods",
            "in place of VALUES: a YAML file, or its name in suites/, whose methods (and grid) are "
            "each laid on the run; its other keys are for clbench compare, which trains the rows",
            "FILE",
        ),
        _PLUGINS,
    ),
    "Evaluate a finished run with other settings of methods that only change weights after "
    "training: one of those with VALUES, which are start:stop:step, or a list with commas; or with "
    "post-hoc methods that it was not trained with.",
    Option("run", "the run folder, with its checkpoints", "RUN", folder),
)
VERIFY = Command(
    "verify",
    (
        Option("data_dir", "the data root (default: data)", "DIR", folder),
        Option("rerun", "run one seed of each row again, and compare"),
        Option("rows", "of these rows alone, as the table names them", "ROW", many=True),
        Option("output", "folder for these runs (default: a temporary one)", "DIR", folder),
        Option("write", "write the verdicts to NAME.verdict.json; --rerun does so too"),
        _PLUGINS,
    ),
    "Check submissions: recompute every score, compare records with recipes, data and weights that "
    "are here, and say for each row whether it is self-reported, disputed, or, with --rerun, "
    "verified. docs/submissions.md",
    Option("files", "submissions, NAME.clbench.zip", "FILE", folder, many=True),
)
