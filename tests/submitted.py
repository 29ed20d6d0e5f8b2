"""Two seeds of two methods, packed; and how such a file is forged."""

import hashlib
import json
import struct
import sys
import zipfile
from contextlib import contextmanager
from io import BytesIO

from clbench.record.record import Record
from clbench.runner.runner import run
from clbench.submission import about, archive, pack

RECIPE = {
    "stream": {"name": "split_digits", "tasks": 2},
    "images": {"size": 8},
    "model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "steps": 4,
    "batch_size": 32,
    "eval_every": 2,
    "loggers": {},
    "checkpoints": "none",
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
}
PLUGIN = """
from clbench.method import Method
class Idle(Method):
    summary = "nothing"
METHODS = {"idle": Idle}
"""
METHODS = {"sequential": {}, "sfa": {"sfa": {"p": 0.9}}}


def make(folder):
    """Run two seeds of two methods, and pack them."""
    for name, methods in METHODS.items():
        for seed in (0, 1):
            run(RECIPE | {"methods": methods, "seed": seed}, folder / "runs" / f"{name}-{seed}")
    return pack([folder / "runs"], folder / "honest.clbench.zip", "Honest", ["A. Author"])


def members_of(path):
    """The members of a submission, by name."""
    found = archive.unzipped(path.read_bytes())
    return {name: found.read(name) for name in found.members}


def sealed(members, **changes):
    """A submission of members, whose hashes are made anew; ``changes`` are of submission.json."""
    rest = {name: content for name, content in members.items() if name != about.NAME}
    told = json.loads(members[about.NAME])
    told["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in rest.items()}
    told |= changes
    return archive.zipped({about.NAME: json.dumps(told).encode(), **rest})


def of_run(members, number, change, recomputed=True):
    """Change the events of a run; what it says of its scores is made to fit, unless it is not."""
    name = f"runs/{number}/record.jsonl"
    events = [json.loads(line) for line in members[name].splitlines()]
    change(events)
    made = dict(members) | {name: "".join(json.dumps(e) + "\n" for e in events).encode()}
    if recomputed:
        return made | {f"runs/{number}/summary.json": summary_of(made, number)}
    return made


def summary_of(members, number):
    """``summary.json`` as it would be for the record of a run."""
    from pathlib import Path

    from clbench.record.trust import record_in

    record = record_in(members[f"runs/{number}/record.jsonl"], Path("x"))
    assert isinstance(record, Record)
    return json.dumps(record.summary()).encode()


def zip_of(members, **about_each):
    """The same members, by a plain zip writer."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", about_each.get("how", zipfile.ZIP_DEFLATED)) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, about_each.get("date", (1980, 1, 1, 0, 0, 0)))
            info.create_system, info.external_attr = 3, about_each.get("mode", 0o100644) << 16
            info.compress_type = about_each.get("how", zipfile.ZIP_DEFLATED)
            info.comment = about_each.get("comment", b"")
            info.extra = about_each.get("extra", b"")
            file.writestr(info, content)
    return buffer.getvalue()


def central(content, number=0):
    """Where the line of a member lies in the list at the end."""
    start = struct.unpack_from("<I", content, len(content) - 6)[0]
    for _ in range(number):
        start += 46 + sum(struct.unpack_from("<3H", content, start + 28))
    return start


def patched(content, place, form, value):
    """The file with a number written over."""
    made = bytearray(content)
    struct.pack_into(form, made, place, value)
    return bytes(made)


#: What writes, runs or calls out; see :func:`quiet`.
_LOUD = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"),
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("pickle.find_class", "shutil.move", "shutil.copyfile", "exec"),
)
_heard = None


def _hook(event, arguments):
    if _heard is None:
        return
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    flagged = event == "open" and arguments[1] is None and (arguments[2] or 0) & 0o3103
    if event in _LOUD or written or flagged:
        _heard.append((event, str(arguments)[:200]))


@contextmanager
def quiet():
    """See that nothing is written, run or sent meanwhile: as Python's own audit tells."""
    global _heard
    if not getattr(sys, "_clbench_hears", False):
        sys.addaudithook(_hook)
        sys._clbench_hears = True
    _heard = found = []
    try:
        yield
    finally:
        _heard = None
    assert not found, found
