"""Makes several runs, one after the other, on as many processes as the recipes say.

Words: a JSON file with a list of {"recipe", "folder", "resume"}. A copy of each folder stays as it
was after the second task, under its name and ``-cut``.
"""

import json
import shutil
import sys
from pathlib import Path

import clbench
from clbench.processes.processes import is_first
from clbench.record import checkpoints
from clbench.runner import outputs as files

save = checkpoints.save


def save_and_copy(folder, number, *rest):
    save(folder, number, *rest)
    if number == 2:
        shutil.copytree(folder, folder.with_name(f"{folder.name}-cut"))


def main(jobs):
    checkpoints.save = save_and_copy
    files.write = lambda *_: None  # pictures take longer than everything else
    for job in jobs:
        record = clbench.run(job["recipe"], job["folder"], job.get("resume", False))
        assert record.finished or not is_first()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
