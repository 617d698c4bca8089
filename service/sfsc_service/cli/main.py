"""The command `sfsc`: reads the arguments and runs one command.

A wrong argument or setting is one sentence on stderr and exit code 2; a command that fails, one sentence and 1.
"""

import difflib
import importlib
import importlib.metadata
import inspect
import os
import re
import sys
import textwrap
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from functools import partial
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from sfsc_bundle.broken_rule import BrokenRule, first_broken_rule
from sfsc_bundle.errors import SfscError
from sfsc_service.cli.printing import PLACES, PrintingCommand
from sfsc_service.cli.shown import escaped, without_password
from sfsc_service.cli.variables import unknown_variables
from sfsc_service.errors import ServiceError, StartError
from sfsc_service.store.errors import StoreError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": "demo:Demo",
    "serve": "serve:Serve",
    "profile": "profile:Profile",
    "check": "check:Check",
    "backup": "backup:Backup",
    "restore": "restore:Restore",
    "compact": "compact:Compact",
    "reembed": "reembed:Reembed",
    "export": "export:Export",
    "import": "parquet_import:Import",
    "key": "key:Key",
    "add": "add:Add",
    "search": "search:Search",
    "duplicates": "duplicates:Duplicates",
    "ls": "ls:List",
    "get": "get:Get",
    "patch": "patch:Patch",
    "rm": "rm:Remove",
    "count": "count:Count",
    "widths": "widths:Widths",
    "quality": "quality:Quality",
    "collections": "collections:CollectionList",
    "align": "align:Align",
}
"""Module and class of each command; only the one that runs is imported, because all of them take half a second."""
SERVING = ("demo", "serve")
"""Commands that log, and tell of unknown variables there."""
KEY = "key"
"""The command whose standard error is a key, and nothing else."""
HANGING = " " * 13
"""Behind the name of a command, or `example: `, where its line goes on."""
INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C has ended."""
HINTS = {
    "unreachable": "; start one with `sfsc demo`, or say where it runs with --url or SFSC_URL",
    "collection_not_found": "; `sfsc collections` lists them, `sfsc collections --create NAME` makes one",
    "already_aligned": "; `sfsc align --undo` undoes it, `sfsc align --status` says how far that is",
}
"""What a command says behind an error of the service, by its code."""
VARIABLE = re.compile(r" \[env: \w+\]")
UNKNOWN = re.compile(r"unrecognized arguments: (--[\w-]+)")
UNIT = re.compile(r" \[([a-zA-Z /]+)(?:, comma-separated)?\]")


def main() -> None:
    """Run the command with the process's arguments."""
    try:
        _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough; nothing is left to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except ServiceError as error:
        _fail(f"{error.detail}{HINTS.get(error.code, '')}", 1)
    except (SfscError, StartError, StoreError) as error:
        _fail(str(error), 1)
    except PermissionError as error:
        _fail(f"{error.filename}: {error.strerror}", 1)
    except ValidationError as error:
        _fail(_told(first_broken_rule(error)), 2)
    except SettingsError as error:
        _fail(str(error), 2)


class _Formatter(HelpFormatter):
    """Fits paragraphs to the terminal; examples and lines that are indented stay lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = re.split(r"\n{2,}", text.strip())
        return "\n\n".join("\n".join(self._filled(block, width, indent)) for block in blocks)

    def _filled(self, block: str, width: int, indent: str) -> list[str]:
        lines = block.split("\n")
        if not any(line.startswith((" ", "example:")) for line in lines):
            lines = [" ".join(lines)]
        return [
            part
            for line in lines
            for part in textwrap.wrap(
                line,
                width,
                initial_indent=indent,
                subsequent_indent=indent + HANGING * line.startswith((" ", "example:")),
                break_on_hyphens=False,
                break_long_words=False,
            )
        ]


class _Parser(ArgumentParser):
    """Errors are raised."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description=description, formatter_class=_Formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        unknown = UNKNOWN.match(message)
        near = difflib.get_close_matches(unknown[1], self._option_string_actions, 1) if unknown else ()
        hint = f"; the nearest one is {near[0]}" if near else ""
        raise SettingsError(f"{message}{hint}; see {self.prog} --help")


def _run(words: list[str]) -> None:
    near = difflib.get_close_matches(words[0], COMMANDS, 1) if words and words[0] not in COMMANDS else ()
    if near:
        raise SettingsError(f"no command is named {words[0]}; the nearest one is {near[0]}; see sfsc --help")
    name = _everything(with_summaries=words[:1] in (["-h"], ["--help"])).parse_args(words[:1]).command
    kind = _class_of(name)
    source: CliSettingsSource[Any] = CliSettingsSource(
        kind,
        root_parser=_Parser(f"sfsc {name}", _description(kind)),
        add_argument_method=partial(_add_argument, kind),
        cli_parse_args=words[1:],
        cli_parse_none_str="unset",
        cli_hide_none_type=True,
        cli_kebab_case=True,
        cli_show_env_vars=True,
    )
    command = kind(_cli_settings_source=source)
    if name not in SERVING and name != KEY:
        for line in unknown_variables(os.environ):
            print(f"sfsc: {escaped(line)}", file=sys.stderr)
    command.run()


def _everything(*, with_summaries: bool) -> ArgumentParser:
    """The parser of the word that names a command."""
    kinds = {name: _class_of(name) for name in COMMANDS} if with_summaries else {}
    summaries = "\n".join(f"  {name:<10} {_description(kind).splitlines()[0]}" for name, kind in kinds.items())
    parser = _Parser(
        "sfsc",
        "Visual search in which model size is a per-request decision.\n\n"
        f"commands:\n{summaries}\n\nexample: sfsc demo\n\n`sfsc COMMAND --help` shows the options of a command.",
    )
    parser.usage = "sfsc [-h] [--version] COMMAND [options]"
    parser.add_argument("--version", action="version", version=f"sfsc {importlib.metadata.version('sfsc')}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=SUPPRESS)
    return parser


def _class_of(name: str) -> Any:
    module, kind = COMMANDS[name].split(":")
    return getattr(importlib.import_module(f"sfsc_service.cli.{module}"), kind)


def _add_argument(kind: type, parser: Any, *names: str, **options: Any) -> Any:
    """Add an option whose value is named by its unit (`--port PORT`), where pydantic names its Python type.

    Its variable is shown where the command reads it.
    """
    is_no_place = names[-1].lstrip("-").replace("-", "_") not in PLACES
    if (issubclass(kind, PrintingCommand) and is_no_place) or not getattr(kind, "reads_variables", True):
        options["help"] = VARIABLE.sub("", options.get("help") or "")
    unit = UNIT.search(options.get("help") or "")
    if unit and names[0].startswith("-") and "{" not in options.get("metavar", "{"):
        options["metavar"] = "|".join(part.split()[-1] for part in unit[1].upper().split(" OR "))
    return parser.add_argument(*names, **options)


def _told(broken: BrokenRule) -> str:
    """The rule behind what the value was given by: its option, its variable, or the name of an argument."""
    if not broken.place:
        return broken.rule
    name = broken.place[0]
    option, variable = f"--{name.replace('_', '-')}", f"SFSC_{name.upper()}"
    if any(word.split("=")[0] == option for word in sys.argv[1:]):
        name = option
    elif variable in os.environ:
        name = variable
    return f"{'.'.join((name, *broken.place[1:]))}: {broken.rule}"


def _description(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def _fail(message: str, code: int) -> NoReturn:
    print(f"sfsc: {escaped(without_password(message))}", file=sys.stderr)
    raise SystemExit(code)
