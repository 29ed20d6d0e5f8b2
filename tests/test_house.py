"""The layers that ARCHITECTURE.md tells: imports never run back up or round in circles."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clbench"
#: From the ground up: each may import those before it.
SPINE = (
    *("errors", "text", "explain", "settings", "seeding", "machine", "weights", "processes"),
    *("files", "data", "optim", "metrics", "record", "streams", "models", "methods", "plugins"),
    *("recipe", "learner", "measure", "runner", "estimate", "sweep", "testing", "suite"),
    *("submission", "board", "cli"),
)
#: Beside the spine, on the record and what is below it.
SIDE = ("report", "launch")
#: Doors into the package: what users import, from whatever layer it is.
DOORS = ("clbench", "clbench.__main__", "clbench.method", "clbench.yamlfile")
MOST_FLAT = 10
#: Public names, of classes, functions and types, that several files may define: each says what its
#: own module is about.
TWICE = {
    "Group": "of a report, and of a task's classes",
    "MoFO": "a method, and the optimiser it brings",
    "Run": "in progress, and as a report reads it",
    "Section": "of settings, and of a report",
    "alone": "in a folder, and on a device",
    "check": "of a record, a state, a network's names",
    "compare": "runs that are there, a suite's, and a run with its recipe",
    "fit": "a task, and weights to a network",
    "load": "a data set, a network, a checkpoint, a suite",
    "read": "a config, weights, a plain file",
    "show": "a run, an estimate, a sweep; a value",
}
MOST_TWICE = 11
#: Lines of a file, and of a function's body.
LONGEST, LONGEST_BODY = 300, 50
#: Functions that are longer, by module and name, and why.
LONG: dict[str, str] = {}


@cache
def modules() -> dict[str, Path]:
    """All modules by dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that one imports, wherever in it: lazily and for types too."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in modules():
                name = name.rpartition(".")[0]
            found |= {name} if name and name != module else set()
    return frozenset(found)


def layer(module: str) -> str:
    """The part of the package that a module is in."""
    return module.split(".")[1]


def walked() -> list[tuple[str, str]]:
    """Every import from one module of the house to another."""
    return [
        (module, other)
        for module in modules()
        for other in imports(module)
        if not {module, other} & set(DOORS)
    ]


def test_every_module_is_in_a_layer():
    known = {*SPINE, *SIDE}
    assert not [m for m in modules() if m not in DOORS and layer(m) not in known]
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FLAT


def test_imports_never_run_back_up():
    ground = SPINE[: SPINE.index("record") + 1]
    wrong = []
    for module, other in walked():
        here, there = layer(module), layer(other)
        if here == there:
            continue
        if here in SIDE:
            fine = there in ground
        elif there in SIDE:
            fine = here not in ground
        else:
            fine = SPINE.index(there) < SPINE.index(here)
        wrong += [] if fine else [f"{module} imports {other}"]
    assert not wrong


def test_nothing_goes_round_in_circles():
    graph: dict[str, set[str]] = {}
    for module, other in walked():
        # A package's own __init__ lists what is in it.
        if not other.startswith(f"{module}.") and not module.startswith(f"{other}."):
            graph.setdefault(module, set()).add(other)
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join([*way[way.index(module) :], module])
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_files_and_functions_are_short():
    long = set()
    for module, path in modules().items():
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= LONGEST, module
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    lines = (node.end_lineno or 0) - body[0].lineno + 1
                    long |= {f"{module}.{node.name}"} if lines > LONGEST_BODY else set()
    assert long == LONG.keys()  # none is listed that is gone


def defined(node: ast.stmt) -> list[str]:
    """Public names of classes, functions and aliases of types; constants are their module's own."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [] if node.name.startswith("_") else [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        return [name for name in names if name[0].isupper() and not name.isupper()]
    return []


def test_a_public_name_is_one_thing():
    found: dict[str, set[str]] = {}
    for module, path in modules().items():
        for node in ast.parse(path.read_text("utf-8")).body:
            for name in defined(node):
                found.setdefault(name, set()).add(module)
    twice = {name for name, where in found.items() if len(where) > 1}
    assert twice == TWICE.keys()  # none is listed that is gone
    assert len(twice) <= MOST_TWICE


def test_doors_are_old_import_paths():
    from clbench.cli import main
    from clbench.estimate import estimate
    from clbench.method import Method, Needs
    from clbench.recipe import Recipe, parse
    from clbench.record import Record
    from clbench.runner import run
    from clbench.sweep import sweep
    from clbench.yamlfile import read

    assert all(
        map(callable, (main, estimate, Method, Needs, Recipe, parse, Record, run, sweep, read))
    )
