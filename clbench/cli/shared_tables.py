"""What the commands take that hand runs to others: packed, checked, on a board, on the hub."""

from __future__ import annotations

from clbench.cli.options import Command, Option, folder
from clbench.cli.tables import ASKS, NAMED

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
PACK = Command(
    "pack",
    (
        Option("output", "the file, NAME.clbench.zip", "FILE", folder),
        Option("title", "of the submission", "TEXT"),
        Option("authors", "who answer for it, each in quotes", "NAME", many=True),
        Option("contact", "how to reach them", "TEXT"),
        Option("license", "of the records (default: CC-BY-4.0)", "TEXT"),
        Option("link", "to code or a paper, https://…", "URL"),
        Option("with_plugins", "put the code of plugins in, too"),
        Option("skip_unfinished", "leave out runs that are not finished"),
    ),
    "Put finished runs into one file to hand over: records, recipes, environments, splits and "
    "scores; no weights, no names of people or folders of this machine. docs/submissions.md",
    Option("runs", "run folders, or folders of them", "RUNS", folder, many=True),
)
PUSH = Command(
    "push",
    (
        Option("to", "the repository, as user/name; it is made if it is not there", "USER/NAME"),
        Option("private", "only you, or the organisation, can see it"),
        Option(
            "license",
            "of the weights, as the hub calls it, such as apache-2.0 (default: unknown)",
            "NAME",
        ),
        Option("update", "the repository may be there: its files are replaced, in a new commit"),
        Option("dry_run", "list what would be sent, and send nothing"),
        Option(
            "output", "write what would be sent into this folder, and send nothing", "DIR", folder
        ),
        ASKS,
        NAMED,
    ),
    "Send a finished run to the Hugging Face hub: weights as timm loads them, a model card, the "
    "record and the recipe, without paths of this machine. docs/sharing.md",
    Option("run", "the run folder", "RUN", folder),
)
VERIFY = Command(
    "verify",
    (
        Option("data_dir", "the data root (default: data)", "DIR", folder),
        Option("rerun", "run one seed of each row again, and compare"),
        Option("rows", "of these rows alone, as the table names them", "ROW", many=True),
        Option("output", "folder for these runs (default: a temporary one)", "DIR", folder),
        Option("write", "write the verdicts to NAME.verdict.json; --rerun does so too"),
        NAMED,
    ),
    "Check submissions: recompute every score, compare records with recipes, data and weights that "
    "are here, and say for each row whether it is self-reported, disputed, or, with --rerun, "
    "verified. docs/submissions.md",
    Option("files", "submissions, NAME.clbench.zip", "FILE", folder, many=True),
)
