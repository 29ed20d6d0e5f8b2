"""Plugins are loaded where a user names them, and nowhere else: reading a recipe imports nothing.

Each is known by the name of its file, or by its module's, and by the SHA-256 of what was loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from clbench.errors import ClbenchError, reason, shown
from clbench.plugins.tables import TABLES, Kind
from clbench.text.textfile import home


@dataclass
class Plugin:
    """A plugin that is loaded.

    Attributes:
        name: of its file, or its module's whole name.
        place: the file; of a package its folder.
        sha256: of its bytes; of a package, of its Python files with their names.
        rows: what it brought, by table.
        installed: whether entry points brought all of it, so that no recipe has to name it.
        whole: whether all of its tables are taken; an entry point takes one row.
    """

    name: str
    place: Path
    sha256: str
    rows: dict[str, list[str]] = field(default_factory=dict)
    installed: bool = False
    whole: bool = False

    def is_in(self, named: Mapping[str, set[str]]) -> bool:
        """Whether a row of it is among those named, by table."""
        return any(named[table] & set(rows) for table, rows in self.rows.items())

    @property
    def named(self) -> str:
        """How recipes name it."""
        return str(self.place) if by_file(self.name) else self.name


#: By name, in the order of loading.
LOADED: dict[str, Plugin] = {}


def load(names: Iterable[str]) -> None:
    """Load plugins, each once; a file that was changed since is loaded again.

    Args:
        names: files (``my_method.py``) or modules (``my_package.module``).

    Raises:
        ClbenchError: in one line, if one is not there, raises, or brings what cannot be taken.
    """
    for name in names:
        place = resolved(name)
        if by_file(place):
            _load_file(Path(place))
        elif place not in LOADED or not LOADED[place].whole:
            _load_module(place)


def by_file(name: str) -> bool:
    """Whether a plugin is named by its file."""
    return name.endswith(".py") or "/" in name


def resolved(name: str) -> str:
    """A plugin's name as recipes keep it: the whole path of a file, or a module.

    Raises:
        ClbenchError: if it is neither.
    """
    if by_file(name):
        return str(Path(home(name)).absolute())
    if not all(part.isidentifier() for part in name.split(".")):
        raise ClbenchError(f"plugins: {shown(name)} is neither a file (my_method.py) nor a module")
    return name


def key_of(name: str) -> str:
    """What a plugin is known by: its file's name, wherever that lies, or its module."""
    return Path(name).name if by_file(name) else name


def union(*several: Sequence[str]) -> list[str]:
    """Plugins as recipes keep them; of two lists that have one of a name, the later's.

    Raises:
        ClbenchError: if one list has two of a name.
    """
    found: dict[str, str] = {}
    for names in several:
        own: dict[str, str] = {}
        for name in names:
            place = own.setdefault(key_of(name), resolved(name))
            if place != resolved(name):
                raise ClbenchError(
                    f"plugins: two are called {key_of(name)}, {place} and {resolved(name)}: rename "
                    "one of them"
                )
        found |= own
    return list(found.values())


def forget(name: str) -> None:
    """Take a plugin's rows out of the tables again."""
    plugin = LOADED.pop(name)
    for table, rows in plugin.rows.items():
        for row in rows:
            del TABLES[table].rows[row]


def register(plugin: Plugin, kind: Kind, name: str, row: object) -> None:
    """Put a row into its table.

    Raises:
        ClbenchError: if it is none, or the name is taken.
    """
    place = f"plugin {plugin.name}: {kind.table}[{shown(name)}]"
    if wrong := kind.wrong(name, row):
        raise ClbenchError(f"{place}: {wrong}")
    if name in kind.rows:
        owner = next((p for p in LOADED.values() if name in p.rows.get(kind.table, ())), None)
        if owner and kind.rows[name] is row:
            return  # an installed plugin that is named as well
        taken = owner.name if owner else "clbench itself"
        raise ClbenchError(f"{place}: the name is taken by {taken}: choose another")
    kind.rows[name] = row
    plugin.rows.setdefault(kind.table, []).append(name)


def _load_file(path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ClbenchError(f"plugin {path}: {error.strerror}: --plugins FILE names it") from error
    sha256, known = hashlib.sha256(content).hexdigest(), LOADED.get(path.name)
    if known and known.sha256 == sha256:
        return
    if known and known.place != path:
        raise ClbenchError(
            f"two plugins are called {path.name}, {known.place} and {path}: rename one of them"
        )
    if known:
        forget(path.name)
    # Its own module name: a file called random.py takes nobody's place.
    module = ModuleType(f"clbench_plugin_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pydantic and dataclasses look for annotations
    try:
        exec(compile(content, path, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        _refuse(path.name, error, path)
    _take(Plugin(path.name, path, sha256), module)


def _load_module(name: str) -> None:
    place, sha256 = digest_of(name)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        _refuse(name, error, place)
    _take(LOADED.get(name) or Plugin(name, place, sha256), module)


def digest_of(module: str) -> tuple[Path, str]:
    """Where a module lies, and the SHA-256 of its file, or of all Python files of its package.

    Raises:
        ClbenchError: if it is not there.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that it hides nothing
    try:
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit) as error:  # in a package above it, which was imported
        _refuse(module, error, None)
    if spec is None or not (spec.origin or "").endswith(".py"):
        raise ClbenchError(f"plugin {module}: there is no such module; of a file, say {module}.py")
    path = Path(str(spec.origin))
    above = module.count(".") + bool(spec.submodule_search_locations)
    if not above:
        return path, hashlib.sha256(path.read_bytes()).hexdigest()
    # The whole package: a module of it may be made of any other.
    digest, package = hashlib.sha256(), path.parents[above - 1]
    for file in sorted(package.rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(package).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return package, digest.hexdigest()


def _take(plugin: Plugin, module: ModuleType) -> None:
    """Put what a module's tables have into clbench's; all of it, or nothing."""
    found = {name: rows for name in TABLES if (rows := vars(module).get(name)) is not None}
    if not found and not plugin.installed:
        tables = ", ".join(TABLES)
        raise ClbenchError(
            f"plugin {plugin.name} has none of {tables}, as in METHODS = {{'leash': Leash}}"
        )
    LOADED[plugin.name] = plugin
    before = sum(map(len, plugin.rows.values()))
    try:
        for table, rows in found.items():
            kind = TABLES[table]
            if not isinstance(rows, Mapping) or rows is kind.rows:
                raise ClbenchError(
                    f"plugin {plugin.name}: {table} must be a mapping of its own, as in {table} = "
                    "{'my_name': MyClass}"
                )
            for name, row in rows.items():
                register(plugin, kind, name, row)
    except ClbenchError:
        forget(plugin.name)
        raise
    plugin.whole = True
    if sum(map(len, plugin.rows.values())) > before:  # than entry points have
        plugin.installed = False


def _refuse(name: str, error: BaseException, place: Path | None) -> NoReturn:
    """Say in one line what a plugin raised, and where in it."""
    if isinstance(error, ClbenchError):
        raise error
    where = "".join(f", line {line}" for line in list(_lines(error, place))[-1:])
    raise ClbenchError(
        f"plugin {name}{where}: {type(error).__name__}: {reason(error)[:300]}: mend it, or leave "
        "it out"
    ) from error


def _lines(error: BaseException, place: Path | None) -> Iterator[str]:
    """The lines of a plugin that led to an error, with their file where it has several."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        yield _line(Path(error.filename), error.lineno, place)
        return
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if place is not None and (file == place or place in file.parents):
            yield _line(file, line, place)


def _line(file: Path, line: int, place: Path | None) -> str:
    return f"{line}" if file == place else f"{line} of {file}"


def rows_named(values: Mapping[str, Any]) -> dict[str, set[str]]:
    """The rows that a recipe's values name, by table.

    Args:
        values: plain ones, which nobody has checked yet.
    """
    stream, tasks = values.get("stream"), values.get("per_task")
    per_task = tasks.values() if isinstance(tasks, Mapping) else ()
    methods = [one.get("methods") for one in (values, *per_task) if isinstance(one, Mapping)]
    fields = stream.items() if isinstance(stream, Mapping) else ()
    return {
        "METHODS": set().union(*map(_names, methods)),
        "STREAMS": set().union(*(_names(value) for key, value in fields if key == "name")),
        "DATASETS": set().union(*(_names(value) for _, value in fields)),
        **{table: _names(values.get(table.lower())) for table in _LISTED},
    }


#: Tables whose rows a recipe lists in a field of their name.
_LISTED = ("METRICS", "LOGGERS", "CALLBACKS")


def _names(value: Any) -> set[str]:
    """Of rows as they are written: a name, a mapping by name, a list of either."""
    if isinstance(value, list | tuple):
        return set().union(*map(_names, value))
    return (
        set(value) if isinstance(value, Mapping) else {value} if isinstance(value, str) else set()
    )
