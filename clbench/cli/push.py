"""``clbench push``: what it does with its words. Nothing is sent without being asked."""

from __future__ import annotations

import sys

from clbench.cli.imports import imports
from clbench.cli.options import Given
from clbench.errors import ClbenchError, shown
from clbench.text.hub_id import wrong_repository


def push(given: Given) -> int:
    """Send a finished run to the Hugging Face hub, once it was asked; returns the exit code.

    Raises:
        ClbenchError: if it cannot be sent, or nobody can be asked.
    """
    from clbench.sweep.finished import finished_record

    repository = given.get("to")
    if repository is None:
        raise ClbenchError("clbench push needs --to user/name: the repository on the hub")
    if wrong := wrong_repository(repository):
        raise ClbenchError(f"--to {shown(repository)} {wrong}: write user/name")
    finished_record(given.get("run"))  # or it is refused, before the imports that take seconds
    with imports():
        from clbench.plugins.recipes import admitted
        from clbench.sharing.card import UNKNOWN
        from clbench.sharing.send import address, check_login, send
        from clbench.sharing.upload import upload_of

    admitted({}, given.get("plugins", []))
    private, output = given.get("private", False), given.get("output")
    license = given.get("license", UNKNOWN)
    upload = upload_of(given.get("run"), repository, private, license)
    sizes = upload.sizes()
    print(f"{address(repository)}, {'private' if private else 'public: everybody can see it'}")
    for name, size in sizes.items():
        print(f"  {name:<20} {size:>13,} bytes")
    print(f"  {'in all':<20} {sum(sizes.values()):>13,} bytes, one commit")
    for line in upload.taken_out:
        print(f"Taken out: {line}.")
    if license == UNKNOWN:
        print("The card says that the licence of the weights is unknown: --license states one.")
    if output is not None:
        upload.write(output)
        print(f"Written to {output}; nothing was sent.", flush=True)
        return 0
    if given.get("dry_run", False):
        print("Nothing was sent.", flush=True)
        return 0
    check_login()
    if not given.get("yes") and not _agreed():
        print("Nothing was sent.", flush=True)
        return 0
    print(f"Sent: {send(upload, given.get('update', False))}", flush=True)
    return 0


def _agreed() -> bool:
    """Whether the user says yes.

    Raises:
        ClbenchError: if nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise ClbenchError(
            "nothing is sent without being asked, and here is no terminal: say --yes to send it, "
            "or --dry_run to look only"
        )
    try:
        return input("Send? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
