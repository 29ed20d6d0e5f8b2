"""What this machine has, and what of it this process has used."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a GPU, or this machine, has in all."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


#: Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Bytes from which glibc is to ask the system for each block: the first bound that it takes, as
#: before 2.35 it took 32 MiB at most.
_BOUNDS = (1 << 30, 1 << 25)


def keep_freed_memory() -> None:
    """Let this process keep memory that tensors gave back, where glibc allocates.

    By default glibc returns large blocks to the system, which has to clear their pages when the
    next step asks for as much: 20,000 pages, 3 to 6 % of a step of ResNet-18 on a CPU. Nothing is
    changed where another allocator is preloaded, or the environment tells glibc what to do.
    """
    told = any(key.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for key in os.environ)
    if told or not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # as with musl
        mallopt = ctypes.CDLL(None).mallopt
        # The other bound alone would do harm: with it glibc leaves this one at 128 KiB for good.
        if any(mallopt(_MMAP_THRESHOLD, bound) for bound in _BOUNDS):
            mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies in bfloat16, and does not only emulate it.

    CPUs do with AVX-512 BF16 or AMX, which torch asks the processor for.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU, or of the whole process on a CPU."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> None:
    """Forget earlier peaks of memory, where the system lets us (Linux, CUDA)."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
