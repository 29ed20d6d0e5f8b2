"""clbench's command line with a fault in one of its processes.

FAULT is ``rank number,module:name,call,kind``: what happens at which call of which function.
"""

import importlib
import os
import signal
import sys
import time

RANK, WHERE, CALL, KIND = os.environ.get("FAULT", ",,,").split(",")
MINE = os.environ.get("RANK", os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", "0")))


def strike():
    if KIND in ("SIGKILL", "SIGTERM", "SIGINT"):
        os.kill(os.getpid(), getattr(signal, KIND))
        time.sleep(5)
    if KIND == "hang":
        time.sleep(1000)
    if KIND == "error":
        from clbench.errors import ClbenchError

        raise ClbenchError("x.jpg cannot be read: remove it")
    if KIND == "bug":
        raise RuntimeError("odd\nsecond line")


def place_the_fault():
    module, name = WHERE.split(":")
    *path, last = name.split(".")
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    real, calls = getattr(owner, last), 0

    def function(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == int(CALL):
            strike()
        return real(*arguments, **named)

    setattr(owner, last, function)


if __name__ == "__main__":
    # Where this runs in the background of a shell, Ctrl-C is ignored; that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if MINE == RANK:
        if WHERE == "start":
            strike()
        else:
            place_the_fault()
    from clbench.cli.cli import main

    sys.exit(main())
