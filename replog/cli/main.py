"""The entry point of `replog`: puts the commands together, and turns every error into one line and an exit code.

::

    0    all is well
    1    damage was found, or the work could not be done
    2    wrong usage or input: nothing was done

A module of commands has a function ``register(app)`` that adds them; `ROOMS` lists the modules. This file imports nothing of the extra ``cli``
before it knows that it is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

from replog.errors import CallerError, DirectoryLocked, ReplogError, WalExists, WalMissing

if TYPE_CHECKING:
    import typer

ROOMS: Final = ("replog.cli.wal", "replog.cli.cluster")
"""Modules with a ``register(app: typer.Typer) -> None``."""

EXIT_DAMAGE: Final = 1
EXIT_USAGE: Final = 2
_EXTRA: Final = {"typer", "rich", "yaml", "click"}


def make_app() -> typer.Typer:
    """The whole command line. Raises ModuleNotFoundError where the extra is not installed."""
    import typer

    app = typer.Typer(name="replog", help="A replicated log: its write-ahead log, its nodes.", no_args_is_help=True, rich_markup_mode=None)

    @app.callback()
    def root() -> None:
        """A replicated log: its write-ahead log, its nodes."""

    for room in ROOMS:
        import_module(room).register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Errors are one line on stderr."""
    try:
        app = make_app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        return _say(f"the command line needs {error.name}, which is not installed: pip install 'replog[cli]'", EXIT_USAGE)
    import typer

    usage_error = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    command = typer.main.get_command(app)
    try:
        code = command.main(list(arguments), prog_name="replog", standalone_mode=False)
    except typer.Abort:
        return _say("aborted, nothing was changed", EXIT_DAMAGE)
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DAMAGE
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except (CallerError, WalMissing, WalExists, DirectoryLocked) as error:
        return _say(str(error), EXIT_USAGE)
    except ReplogError as error:
        return _say(f"{error} ({type(error).__name__})", EXIT_DAMAGE)
    except OSError as error:
        return _say(f"{error.filename or 'input'}: {error.strerror or error}", EXIT_USAGE)
    except Exception as error:
        if not isinstance(error, usage_error):
            raise
        return _usage(error)
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The program `replog`."""
    sys.exit(run(sys.argv[1:]))


def _usage(error: Exception) -> int:
    """One line for what typer found wrong with the arguments; its help where none were given."""
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message", error.__str__)())
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return EXIT_USAGE
    path = getattr(context, "command_path", "replog") if context is not None else "replog"
    return _say(f"{' '.join(message.split())} (see {path} --help)", EXIT_USAGE)


def _say(message: str, code: int) -> int:
    print(f"replog: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
