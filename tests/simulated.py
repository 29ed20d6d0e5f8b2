"""A SLURM of programs that only say what SLURM would, on a clock that runs as fast as it is read.

``sbatch``, ``squeue`` and ``scancel`` are scripts that leave and find files; what happens to the
jobs happens here. Runs are stubs that write the records of runs.
"""

import heapq
import json
import random
import re
import time
from pathlib import Path

import yaml
from helpers import EVENTS
from submitit.core.utils import DelayedSubmission

from clbench.launch.slurm_job import answer_file
from clbench.runner.products import PRODUCTS

PROGRAMS = {
    "sbatch": 'echo "$@" >> "$HERE/sbatch"; echo "Submitted batch job $(wc -l < "$HERE/sbatch")"',
    "squeue": '[ ! -e "$HERE/down" ] && cat "$HERE/queue"',
    "scancel": 'echo "$@" >> "$HERE/scancel"',
    "scontrol": 'echo "MaxArraySize            = 501"',
    "srun": "exit 1",
}
#: What can become of a job, how often in a hundred, and after which share of its time.
FATES = {"preempted": (8, 0.5), "timed out": (5, 1.0), "failed": (4, 0.3), "vanished": (3, 0.6)}


class Cluster:
    """A cluster; the module ``time`` of the launcher is to be this.

    Args:
        folder: for its programs and files; their folder is to be on the PATH.
        width: jobs that have room side by side.
        seconds: that a run takes, on the average.
        faults: whether there are any.
    """

    def __init__(self, folder, width, seconds=2400.0, faults=True):
        self.folder, self.width, self.seconds, self.faults = folder, width, seconds, faults
        self.now, self.own, self.most = 0.0, 0.0, 0
        self.draw = random.Random(0)
        self.states, self.works, self.arrays = {}, {}, 0
        self.slots = {}  # of an array, how many of its jobs run side by side
        self.events, self.history, self.calls = [], [], []
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name, text in PROGRAMS.items():
            program = self.bin / name
            program.write_text(f"#!/bin/sh\nHERE={folder}\n{text}\n")
            program.chmod(0o755)
        self._write_queue()

    def monotonic(self):
        """The time of the cluster."""
        return self.now

    def sleep(self, seconds):
        """Let time pass, and what happens in it; ``own`` counts what this takes of the real one."""
        began = time.process_time()
        told = dict(self.states)
        self._take_in()
        until = self.now + seconds
        while self.events and self.events[0][0] <= until:
            self.now, _, what, job = heapq.heappop(self.events)
            what(job)
        self.now = until
        if told != self.states:
            self._write_queue()
        self.own += time.process_time() - began
        for at, call in list(self.calls):
            if at <= self.now:
                self.calls.remove((at, call))
                call()

    def at(self, seconds, call):
        """Have something done, between two looks of the launcher."""
        self.calls.append((seconds, call))

    def jobs(self, state):
        """Jobs that wait, or run."""
        return [job for job, now in self.states.items() if now == state]

    def _take_in(self):
        for name in ("sbatch", "scancel"):
            path = self.folder / name
            lines = path.read_text().splitlines() if path.exists() else []
            if name == "scancel":
                for job in [job for line in lines for job in line.split()]:
                    self.states.pop(job, None)
                path.unlink(missing_ok=True)
                if lines:
                    self._start()
            else:
                for line in lines[self.arrays :]:
                    self._submit(Path(line.split()[-1]))
                    self._start()

    def _submit(self, script):
        self.arrays += 1
        found = re.search(r"--array=0-(\d+)%(\d+)", script.read_text())
        count, self.slots[self.arrays] = (int(found[1]) + 1, int(found[2])) if found else (1, 1)
        for number in range(count):
            job = f"{self.arrays}_{number}" if found else str(self.arrays)
            pickled = script.parent / f"{job}_submitted.pkl"
            self.states[job], self.works[job] = "PENDING", DelayedSubmission.load(pickled).function

    def _start(self):
        running = self.jobs("RUNNING")
        for job in self.jobs("PENDING"):
            array = int(job.partition("_")[0])
            of_array = sum(int(other.partition("_")[0]) == array for other in running)
            if len(running) < self.width and of_array < self.slots[array]:
                running.append(job)
                self._begin(job)
        self.most = max(self.most, len(running))

    def _begin(self, job):
        self.states[job] = "RUNNING"
        _write_record(self.works[job].folder, 2)
        length = self.seconds * self.draw.uniform(0.5, 1.5)
        fate, share = "finished", 1.0
        chance = self.draw.uniform(0, 100)
        for name, (often, after) in FATES.items() if self.faults else ():
            if 0 <= chance < often:
                fate, share = name, after
            chance -= often
        happens = {"preempted": self._requeue, "timed out": self._requeue}
        happens |= {"failed": self._fail, "vanished": self._vanish, "finished": self._finish}
        self.history.append((self.works[job].folder.name, fate))
        entry = (self.now + length * share, len(self.history), happens[fate], job)
        heapq.heappush(self.events, entry)

    def _requeue(self, job):
        if job in self.states:
            self.states[job] = "PENDING"
            self._start()

    def _fail(self, job):
        self._end(job, "no disk today")

    def _vanish(self, job):
        if self.states.pop(job, None):
            self._start()

    def _finish(self, job):
        if job in self.states:
            folder = self.works[job].folder
            for name in PRODUCTS:
                (folder / name).write_bytes(b"\2" + bytes(7) + b"{}")
            _write_record(folder, len(EVENTS))
        self._end(job, "")

    def _end(self, job, reason):
        if self.states.pop(job, None):
            answer_file(self.works[job].answers, job).write_text(json.dumps({"reason": reason}))
            self._start()

    def _write_queue(self):
        """As `squeue --array --format=%i|%T` has it."""
        lines = [f"{job}|{state}\n" for job, state in self.states.items()]
        (self.folder / "queue").write_text("".join(lines))


def _write_record(folder, events):
    recipe = yaml.load((folder / "config.yaml").read_text(), yaml.CSafeLoader)
    lines = [json.loads(event.text) for event in EVENTS[:events]]
    lines[0] |= {"title": recipe["name"], "seed": recipe["seed"], "methods": recipe["methods"]}
    for line in lines[2:3]:
        line["methods"] = {name: {} for name in recipe["methods"]}
    (folder / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
