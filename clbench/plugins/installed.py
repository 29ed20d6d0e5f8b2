"""What installed packages bring by entry points: ``leash = "my_package:Leash"``.

They are there whoever asks, as the user installed them: no recipe names them.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from clbench.errors import ClbenchError, reason
from clbench.plugins.loading import LOADED, Plugin, digest_of, register
from clbench.plugins.tables import KINDS, Kind


@cache
def load_installed() -> None:
    """Put what the entry points name into the tables, once a process.

    What cannot be loaded costs a line, as every other command would fail with it.
    """
    for kind in KINDS:
        for point in entry_points(group=kind.group):
            try:
                _load(kind, point)
            except (Exception, SystemExit) as error:
                told = str(error) if isinstance(error, ClbenchError) else reason(error)[:300]
                print(
                    f"warning: {point.name} of {kind.group} is left out, {point.value} cannot be "
                    f"loaded: {told}",
                    file=sys.stderr,
                    flush=True,
                )


def _load(kind: Kind, point: EntryPoint) -> None:
    row, module = point.load(), point.module
    plugin = LOADED.get(module) or Plugin(module, *digest_of(module))
    register(plugin, kind, point.name, row)
    plugin.installed, LOADED[module] = True, plugin
