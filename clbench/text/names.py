"""Names of runs and suites: each is the name of one folder, on any system."""

from __future__ import annotations

from clbench.errors import JOINERS

#: Bytes of UTF-8; file systems take 255, and a run that is not the first adds a number.
LONGEST = 200
#: Devices of Windows, with any ending.
RESERVED = {"con", "prn", "aux", "nul"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "123456789"
}


def wrong_name(name: str) -> str:
    """Why a text cannot be a folder's name, or nothing.

    >>> wrong_name("α = 0.5, try 2"), wrong_name("../x")
    ('', 'is to be the name of one folder, so without / and \\\\')
    """
    if not name.strip():
        return "is empty"
    if "/" in name or "\\" in name:
        return "is to be the name of one folder, so without / and \\"
    if not all(c.isprintable() or c in JOINERS for c in name):
        return "has control characters, which no folder's name should have"
    if name.startswith("."):
        return "starts with a dot, which would hide its folder"
    if name != name.strip() or name.endswith("."):
        return "starts or ends with a space, or ends with a dot, which not every system keeps"
    if name.split(".")[0].strip().lower() in RESERVED:
        return "is the name of a device on some systems: choose another"
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > LONGEST:
        return f"has {size} bytes in UTF-8, and a folder's name should have at most {LONGEST}"
    return ""
