"""Every command explains itself at once, with an example that is a real command line."""

from __future__ import annotations

import re
import resource
import shlex
import subprocess
import sys

import pytest

from tfbig.cli.main import build_parser, commands


def python(*arguments: str) -> tuple[str, float]:
    """What a command prints, and its processor time, in which that of other programs is not."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "tfbig", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_lists_every_command_in_half_a_second():
    tries = [python("--help") for _ in range(3)]
    assert min(seconds for _, seconds in tries) < 0.5
    for name in commands.names():
        assert re.search(rf"^    {name}\s", tries[0][0], re.MULTILINE)


@pytest.mark.parametrize("name", commands.names())
def test_command_explains_itself(name):
    command = commands[name]
    assert command.HELP[0].islower() and not command.HELP.endswith(".")
    told, _ = python(name, "--help")
    assert told.startswith(f"usage: tfbig {name} ")
    assert " ".join(command.HELP.split()) in " ".join(told.split())
    assert f"example:\n  {command.EXAMPLE}\n" in told
    assert "--json" in told and "--quiet" in told


@pytest.mark.parametrize("name", commands.names())
def test_example_is_understood(name):
    program, *arguments = shlex.split(commands[name].EXAMPLE)
    assert program == "tfbig"
    assert build_parser().parse_args(arguments).run is commands[name].run


def test_version():
    import tfbig

    assert python("--version")[0] == f"tfbig {tfbig.__version__}\n"
