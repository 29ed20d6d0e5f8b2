"""One grammar for the words of every command, and its help, from one table of options each.

An option starts with ``--`` and has its words behind it, or behind ``=``; dashes and underscores in
its name are one. Whatever else stands there is what the command is about, such as a run folder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError, shown
from clbench.explain import nearest
from clbench.text.textfile import home

WIDTH = 100
#: What the words after an option mean: called with its name, as in messages, and one word.
WordReader = Callable[[str, str], Any]


@dataclass(frozen=True)
class Option:
    """An option, or what a command is about.

    Attributes:
        name: without dashes before it, with underscores.
        about: for the help; an option without it is read, but not in the help.
        value: what to call its value there; empty for a switch.
        read: what a word of it means.
        many: whether it takes several words, and can be given again.
        prints: whether the command prints something and stops.
        group: what it is listed under.
        optional: of what a command is about: whether it can be left out.
    """

    name: str
    about: str
    value: str = ""
    read: WordReader = lambda _, word: word
    many: bool = False
    prints: bool = False
    group: str = "options"
    optional: bool = False

    @property
    def words(self) -> str:
        """What to call its words in the help."""
        words = f"{self.value}{' ...' * self.many}"
        return f"[{words}]" if self.optional else words


HELP = Option("help", "this text", prints=True)
#: Of every command to which a plugin can mean something.
PLUGINS = "plugins"


@dataclass(frozen=True)
class Command:
    """What a command takes.

    Attributes:
        name: as it is typed.
        options: all but ``--help``.
        about: for the help.
        place: what it is about, which must be there unless it is optional; None: nothing.
        fields: whether any other option is a field of the recipe.
        epilog: more for the help.
    """

    name: str
    options: Sequence[Option]
    about: str = ""
    place: Option | None = None
    fields: bool = False
    epilog: str = ""

    @property
    def see(self) -> str:
        """Where its help is."""
        return "see --help" if self.name == "train" else f"see clbench {self.name} --help"


@dataclass
class Given:
    """What was asked for.

    Attributes:
        values: of the options and the place that were given, by name: a list where there may be
            many, True for a switch.
        fields: the words for each field of the recipe, by its dotted name.
    """

    values: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, list[str]] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option, or what it is without."""
        return self.values.get(name, default)


def read_words(command: Command, argv: Sequence[str]) -> Given:
    """Sort the words of a command line.

    Raises:
        ClbenchError: for a word that fits nowhere, an option without its value or given twice, or
            what the command cannot do without.
    """
    given = Given()
    if {"-h", "--help"} & set(argv):
        given.values["help"] = True  # whatever else is there
        if any(option.name == PLUGINS for option in command.options):
            given.values[PLUGINS] = plugins_among(argv)  # the help knows their rows
        return given
    known = {option.name: option for option in command.options}
    words, last = list(argv), ""
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            _put_place(command, given, word, last)
            continue
        typed, equals, value = word[2:].partition("=")
        name = _underscored(typed)
        option = known.get(name)
        if option is None and not command.fields:
            near = nearest(f"--{name}", [f"--{one}" for one in known])
            raise ClbenchError(f"there is no option --{typed}{near}; {command.see}")
        if option is not None and not option.value:
            if equals:
                raise ClbenchError(f"--{name} takes no value, got {shown(value)}")
            given.values[name], last = True, ""
            continue
        taken, last = [value] if equals else [], typed
        many = option is None or option.many
        while not equals and words and not words[0].startswith("--") and (many or not taken):
            taken.append(words.pop(0))
        if not taken:
            near = nearest(name, sorted(known)) if option is None else ""
            raise ClbenchError(f"--{typed} needs a value{near}")
        if option is None:
            if not all(name.split(".")):
                raise ClbenchError(f"{shown(word)} names no field; {command.see}")
            if name in given.fields:
                raise ClbenchError(f"--{typed} is given twice")
            given.fields[name] = taken
        else:
            _put(given, option, f"--{typed}", taken)
    place = command.place
    if place and not place.optional and place.name not in given.values:
        raise ClbenchError(
            f"clbench {command.name} needs {place.value}: {place.about}; {command.see}"
        )
    return given


def plugins_among(argv: Sequence[str]) -> list[str]:
    """The words of ``--plugins``, before any other option is read: plugins can bring some."""
    found, open_ = list[str](), False
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            open_ = name == PLUGINS and not equals
            found += [value] if name == PLUGINS and equals else []
        elif open_:
            found.append(word)
    return found


def help_of(command: Command) -> str:
    """The help: usage, what it is about, and its options."""
    place = f" {command.place.words}" if command.place else ""
    lines = [f"usage: clbench {command.name}{place} [--OPTION VALUE ...]"]
    lines += ["", *textwrap.wrap(command.about, WIDTH), "", *options_help(command)]
    if command.epilog:
        lines += ["", *textwrap.wrap(command.epilog, WIDTH)]
    return "\n".join(lines)


def options_help(command: Command) -> list[str]:
    """A line for what the command is about and for each option, group by group."""
    place = command.place
    groups = {"": [(place.words, place.about)]} if place else {}
    for option in (*command.options, HELP):
        if option.about:
            row = (f"--{option.name} {option.words}".rstrip(), option.about)
            groups.setdefault(option.group, []).append(row)
    width = max(19, *(len(title) + 1 for rows in groups.values() for title, _ in rows))
    lines: list[str] = []
    for group, rows in groups.items():
        lines += ["", *([f"{group}:"] if group else []), *columns(rows, width)]
    return lines[1:]


def columns(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Lines of a title and a text, which goes on below itself."""
    lines = []
    for title, text in rows:
        beyond = " " * (len(title) - width)  # of a long title
        wrapped = textwrap.wrap(text, WIDTH - width - 3, initial_indent=beyond) or [""]
        lines.append(f"  {title:<{width}} {wrapped[0].removeprefix(beyond)}")
        lines += [" " * (width + 3) + line for line in wrapped[1:]]
    return lines


def folder(option: str, word: str) -> Path:
    """A path; ``~`` is the user's home.

    Raises:
        ClbenchError: for an empty word, or what no path can hold.
    """
    if not word.strip():
        raise ClbenchError(f"{option} needs a value: it is empty")
    if "\0" in word:
        raise ClbenchError(f"{option} = {shown(word)} cannot be a path: it holds a NUL")
    return Path(home(word))


def whole_number(option: str, word: str) -> int:
    """A whole number.

    Raises:
        ClbenchError: for anything else.
    """
    if not word.isascii() or not word.removeprefix("-").isdigit() or len(word) > 18:
        raise ClbenchError(f"{option} = {shown(word)} is no whole number")
    return int(word)


def real_number(option: str, word: str) -> float:
    """A number.

    Raises:
        ClbenchError: for anything else.
    """
    try:
        return float(word)
    except ValueError as error:
        raise ClbenchError(f"{option} = {shown(word)} is no number") from error


def one_of(*choices: str) -> WordReader:
    """One of a few words."""

    def read(option: str, word: str) -> str:
        if word not in choices:
            near = nearest(word, choices)
            raise ClbenchError(f"{option} = {shown(word)} is none of {', '.join(choices)}{near}")
        return word

    return read


def _put(given: Given, option: Option, typed: str, words: Sequence[str]) -> None:
    if option.many:
        given.values.setdefault(option.name, []).extend(option.read(typed, word) for word in words)
    elif option.name in given.values:
        raise ClbenchError(f"{typed} is given twice")
    else:
        given.values[option.name] = option.read(typed, words[0])


def _put_place(command: Command, given: Given, word: str, last: str) -> None:
    place = command.place
    if place is None or word.startswith("-") or (place.name in given.values and not place.many):
        taken = f"; --{last} takes one value" if last and word != "--" else ""
        raise ClbenchError(f"unexpected {shown(word)}: options start with --, {command.see}{taken}")
    _put(given, place, place.value, [word])


def _underscored(name: str) -> str:
    """``dry-run`` as ``dry_run``; names of tasks and files stay as they are."""
    if name.startswith(("per_task.", "per-task.")):
        first, task, *rest = name.split(".")
        return ".".join([first.replace("-", "_"), task, *(part.replace("-", "_") for part in rest)])
    return name.replace("-", "_")
