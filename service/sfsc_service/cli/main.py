"""The command `sfsc`: reads the arguments and runs one command.

A wrong argument or setting is one sentence on stderr and exit code 2; a command that fails, one sentence and 1.
"""

import importlib.metadata
import inspect
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.errors import SfscError
from sfsc_service.cli.add import Add
from sfsc_service.cli.count import Count
from sfsc_service.cli.demo import Demo
from sfsc_service.cli.get import Get
from sfsc_service.cli.ls import List
from sfsc_service.cli.profile import Profile
from sfsc_service.cli.rm import Remove
from sfsc_service.cli.search import Search
from sfsc_service.cli.serve import Serve
from sfsc_service.cli.widths import Widths
from sfsc_service.errors import ServiceError, StartError
from sfsc_service.store.errors import StoreError

__all__ = ["main"]

Command = Serve | Demo | Profile | Widths | Add | Search | List | Get | Remove | Count
COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "serve": Serve,
    "profile": Profile,
    "add": Add,
    "search": Search,
    "ls": List,
    "get": Get,
    "rm": Remove,
    "count": Count,
    "widths": Widths,
}
NO_SERVICE = "; start one with `sfsc demo`, or say where it runs with --url or SFSC_URL"


def main() -> None:
    """Run the command with the process's arguments."""
    try:
        _command(sys.argv[1:]).run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough; nothing is left to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ServiceError as error:
        _fail(f"{error.detail}{NO_SERVICE if error.code == 'unreachable' else ''}", 1)
    except (SfscError, StartError, StoreError) as error:
        _fail(str(error), 1)
    except ValidationError as error:
        _fail(str(first_broken_rule(error)), 2)
    except SettingsError as error:
        _fail(str(error), 2)


class _Parser(ArgumentParser):
    """Help texts keep their lines; errors are raised."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(
            name, description=description, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see {self.prog} --help")


def _command(words: list[str]) -> Command:
    summaries = "\n".join(f"  {name:<8} {_description(kind).splitlines()[0]}" for name, kind in COMMANDS.items())
    everything = _Parser(
        "sfsc",
        "Visual search in which model size is a per-request decision.\n\n"
        f"commands:\n{summaries}\n\nexample: sfsc demo\n\n`sfsc COMMAND --help` shows the options of a command.",
    )
    everything.add_argument("--version", action="version", version=f"sfsc {importlib.metadata.version('sfsc')}")
    everything.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=", ".join(COMMANDS))
    name = everything.parse_args(words[:1]).command
    kind = COMMANDS[name]
    source: CliSettingsSource[Command] = CliSettingsSource(
        kind,
        root_parser=_Parser(f"sfsc {name}", _description(kind)),
        cli_parse_args=words[1:],
        cli_parse_none_str="unset",
        cli_hide_none_type=True,
        cli_kebab_case=True,
        cli_show_env_vars=True,
    )
    return kind(_cli_settings_source=source)


def _description(kind: type[Command]) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def _fail(message: str, code: int) -> NoReturn:
    print(f"sfsc: {message}", file=sys.stderr)
    raise SystemExit(code)
