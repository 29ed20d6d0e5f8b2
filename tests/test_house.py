"""The layers that ARCHITECTURE.md tells: imports never run back up or round in circles."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clbench"
#: From the ground up: each may import those before it.
SPINE = (
    *("errors", "text", "explain", "settings", "seeding", "machine", "weights", "processes"),
    *("files", "data", "optim", "metrics", "record", "streams", "models", "methods", "recipe"),
    *("learner", "measure", "runner", "estimate", "sweep", "suite", "cli"),
)
#: Beside the spine, on the record and what is below it.
SIDE = ("report", "launch")
#: Doors into the package: what users import, from whatever layer it is.
DOORS = ("clbench", "clbench.__main__", "clbench.method", "clbench.yamlfile")
MOST_FLAT = 10


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
