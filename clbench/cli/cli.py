"""The command line: configs, overrides for every field, and errors as one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Any

from clbench.cli.arguments import read_arguments, values
from clbench.cli.commands import COMMANDS, command
from clbench.cli.imports import imports
from clbench.cli.options import HELP, PLUGINS, Given, columns, options_help
from clbench.cli.tables import TRAIN
from clbench.errors import ClbenchError, one_line, shown
from clbench.processes.parent import follow_stdin

USAGE = """\
Run a pretrained model through a stream of tasks, and tell what it learned and what it forgot.

  python train.py                                         the offline default, in seconds
  python train.py --config split_cifar100_sfa.yaml        a config in configs/, or a path
  python train.py --config base.yaml mine.yaml --seed 1   several are merged, left to right
  python train.py --stream.tasks 10 --methods.sfa.p 0.9   every field has its dotted name
  python train.py --resume                                go on with the last run that was cut off

  clbench compare digits --jobs 2                         run a suite of methods and seeds, report
  clbench report runs/ --output report/                   compare runs that are there
  clbench compare sfa --skip_missing                      a paper, as far as data and weights allow
  clbench sweep runs/a --alpha 0:1:0.05                   other averages of a run, no training
  clbench sweep runs/a --methods posthoc                  post-hoc methods on a run, no training
  clbench soup runs/a runs/b --greedy                     the mean of runs' weights, no training
  clbench data split_cub200                               where its files belong, what is there
  clbench embed imagenet --pretrained openai              text embeddings for zero-shot retention
  clbench new method leash                                a method of your own to start from
  clbench pack runs/ --output me.clbench.zip --title …    finished runs in one file, to hand over
  clbench verify me.clbench.zip --rerun                   what can be checked of such a file
  clbench board submissions/                              a site of many, ranked and checked
  clbench score matrix.csv                                scores of an accuracy matrix
  clbench list --verified                                 numbers of papers, and ours

%s

fields (--FIELD VALUE). A text or a path is taken as typed: no # @ * [ : or null means anything in
it, ~ at its start is your home, and an empty VALUE ('') is null where the field can be. Where it
can be a list, several words are one: --stream.train a b. Any other VALUE is read as YAML: numbers,
true, false, null, [1, 2], {sfa: {p: 0.9}}. Mappings are merged with the config's: --methods
{flow: {}} adds FLOW to its methods, --methods.sfa null is one less, --methods {} is none of them,
and --methods {} --methods.flow {} is FLOW alone.

"""


#: Options of commands that do nothing but print, as words with underscores.
PRINTING = {"_h", *(f"__{option.name}" for option in (*TRAIN.options, HELP) if option.prints)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for a mistake the user can mend)."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names in any script, on any terminal
            stream.reconfigure(errors="backslashreplace")
    follow_stdin()
    try:
        if words and words[0] in COMMANDS:
            return command(words)
        if words and words[0].isidentifier() and words[0] != "train":
            raise ClbenchError(_no_command(words[0]))
        return _main(read_arguments(words[1:] if words[:1] == ["train"] else words))
    except ClbenchError as error:
        return _told(str(error))
    except KeyboardInterrupt as error:  # says which signal it was, if not Ctrl-C
        return 128 + int(error.args[0] if error.args else signal.SIGINT)
    except BrokenPipeError:
        return _unread(words)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        return _told(f"{error.filename}: {reason}" if error.filename is not None else reason)
    except MemoryError:
        return _told("out of memory: lower batch_size or eval_batch_size, or keep images on disk")
    except RecursionError:
        return _told("something is nested too deep to be read")


def _told(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return 2


def _unread(words: Sequence[str]) -> int:
    """Who reads the output has gone, as in ``--help | head``: a mistake only if a run stops."""
    # What is still buffered would raise again when Python ends.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if PRINTING & {word.replace("-", "_") for word in words} or words[:1] in (["score"], ["list"]):
        return 0
    return _told("nobody reads the output any more, so this stopped: the same command goes on")


def _no_command(word: str) -> str:
    from clbench.explain import nearest

    near = nearest(word, ["train", *COMMANDS])
    return f"unexpected {shown(word)}{near}: options start with --, see --help"


def _main(given: Given) -> int:
    # Imports wait until the words are known to be right: torch takes seconds.
    if given.get("help") or given.get("list"):
        from clbench.plugins.recipes import admitted

        admitted({}, given.get("plugins", []))
    if given.get("help"):
        print(USAGE % "\n".join(options_help(TRAIN)) + field_help())
        return 0
    if given.get("version"):
        from clbench import __version__

        print(f"clbench {__version__}")
        return 0
    if given.get("list"):
        from clbench.cli.listing import all_names

        print(all_names())
        return 0
    from clbench.recipe.known import check_early

    found = values(given)
    check_early(found)
    with imports():
        from clbench.recipe.recipe import parse
        from clbench.runner.runner import run
    recipe = parse(found)
    if given.get("print_config"):
        from clbench.recipe.yamlfile import commented

        print(commented(recipe))
        return 0
    if given.get("dry_run"):
        from clbench.estimate.estimating import estimate
        from clbench.estimate.screen import show

        show(estimate(recipe))
        return 0
    run(recipe, given.get("output"), resume=given.get("resume", False))
    return 0


def field_help() -> str:
    """One line for each field of the recipe, with its default."""
    from pydantic_core import PydanticUndefined

    from clbench.recipe.classes import fields
    from clbench.recipe.known import classes

    known = classes()
    rows = []

    def add(key: str, info: Any, of: Sequence[str] = ()) -> None:
        default = info.default
        default = str(default).lower() if isinstance(default, bool) else default  # as in YAML
        default = list(default) if isinstance(default, tuple) else default
        usual = "" if default in (PydanticUndefined, None) else f" [{default}]"
        owned = f" (of {', '.join(of)})" if of else ""
        rows.append((key, f"{info.description or ''}{usual}{owned}"))

    for key, info in fields(known.recipe):
        if key != PLUGINS:  # is among the options
            add(key, info)
        if key == "stream":
            seen = set()
            for cls in dict.fromkeys(known.streams.values()):
                for name, inner in cls.model_fields.items():
                    if (name, inner.description) not in seen:
                        seen.add((name, inner.description))
                        add(f"stream.{name}", inner, known.owners(name, inner.description))
        for row, kind in known.under(key).items():
            for name, inner in kind.model_fields.items():
                add(f"{key}.{row}.{name}", inner)
    return "\n".join(columns(rows, 31))
