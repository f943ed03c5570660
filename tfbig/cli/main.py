"""Entry point of the `tfbig` command."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import tfbig
from tfbig.cli.terminal import only_our_words, print_json
from tfbig.cli.watched import is_to_be_watched, run_watched
from tfbig.errors import InvalidArgument, TfbigError, nearest
from tfbig.registry import Registry
from tfbig.tuning.workers import WORKER, end_with_parent, role

GOOD, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
commands = Registry("tfbig.cli.commands", "command")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 good, 1 the work failed, 2 usage, 130 stopped by Ctrl-C."""
    goes_on = False
    try:
        arguments = build_parser().parse_args(argv)
        goes_on = arguments.watched
        if is_to_be_watched(arguments):
            return run_watched(arguments, sys.argv[1:] if argv is None else argv)
        end_with_parent()
        json = getattr(arguments, "json", False)
        with only_our_words(json=json):
            values = arguments.run(arguments)
        if json and role() != WORKER:
            print_json(values)
        sys.stdout.flush()
        return GOOD
    except InvalidArgument as error:
        return _complain(error, USAGE)
    except TfbigError as error:
        return _complain(error, FAILED)
    except BrokenPipeError:  # The reader of our output, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except OSError as error:
        return _complain(_explained(error), FAILED)
    except KeyboardInterrupt:
        rest = "The same command goes on from here." if goes_on else "Nothing half-written was left behind."
        return _complain(f"stopped. {rest}", INTERRUPTED)


class _Parser(argparse.ArgumentParser):
    """Names the nearest command where an unknown one was given."""

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"invalid choice: '([^']*)'", message)
        super().error(message + (nearest(unknown[1], commands.names()) if unknown else ""))


def build_parser() -> argparse.ArgumentParser:
    """The parser with one sub-parser per command."""
    parser = _Parser(prog="tfbig", description=(tfbig.__doc__ or "").splitlines()[0])
    parser.add_argument("--version", action="version", version=f"tfbig {tfbig.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in commands.names():
        command = commands[name]
        sub = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.HELP,
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, watched=getattr(command, "WATCHED", False))
    return parser


def _explained(error: OSError) -> str:
    """The system's words for it, the file, and what to do."""
    reason = error.strerror or str(error)
    place = f": `{error.filename}`" if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{reason}{place}." + (
        " Make room, or choose another --out. Nothing half-written was left behind." if full else ""
    )


def _complain(error: object, code: int) -> int:
    print(f"tfbig: {error}", file=sys.stderr)
    return code
