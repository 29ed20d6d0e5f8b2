"""What a process tells its allocator."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from clbench import machine

CODE = """
import ctypes
from clbench.machine import keep_freed_memory

class Info(ctypes.Structure):  # of glibc's malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.mallinfo2.restype = [ctypes.c_void_p], Info
keep_freed_memory()
libc.free(libc.malloc(100 << 20))
print(libc.mallinfo2().fordblks >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
@pytest.mark.parametrize(("told", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_freed_memory_stays_unless_the_environment_says_otherwise(told, kept):
    import ctypes

    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("the C library is not glibc 2.33 or newer")
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={"PYTHONPATH": ":".join(sys.path)} | told,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (int(done.stdout) >= 99) is kept


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
@pytest.mark.parametrize(("most", "taken"), [(1 << 31, [30, 31]), (1 << 25, [25, 31]), (0, [])])
def test_the_bound_of_an_older_glibc_is_asked_for_too(most, taken, monkeypatch):
    """Before 2.35 it refuses more than 32 MiB, and is harmed by the other bound alone."""
    bounds = []

    def mallopt(what, bound):
        takes = what == machine._TRIM_THRESHOLD or bound <= most
        bounds.extend([bound.bit_length() - (bound & 1 == 0)] * takes)
        return int(takes)

    monkeypatch.setattr(machine.os, "environ", {})
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    machine.keep_freed_memory()
    assert bounds == taken
