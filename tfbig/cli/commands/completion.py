"""`tfbig completion`: a script that lets the shell complete commands, options and names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tfbig.cli import options

HELP = "print the script that completes tfbig's commands and options in bash or zsh"
EXAMPLE = "tfbig completion bash"
_BASH = """\
# To have it in every shell: tfbig completion bash > ~/.local/share/bash-completion/completions/tfbig
_tfbig() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=( $(compgen -W "{commands} --help --version" -- "$current") )
        return
    fi
    if [ "${{current#-}}" = "$current" ]; then
        case "${{COMP_WORDS[1]}} $before" in
{values}
        esac
    else
        case "${{COMP_WORDS[1]}}" in
{options}
        esac
    fi
    [ -n "$words" ] && COMPREPLY=( $(compgen -W "$words" -- "$current") )
}}
complete -o default -F _tfbig tfbig
"""
_ZSH = """\
# To have it in every shell: put this line into ~/.zshrc: source <(tfbig completion zsh)
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell that reads the script")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from tfbig.cli.main import build_parser

    subparsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    commands: dict[str, argparse.ArgumentParser] = dict(subparsers.choices)
    script = (_ZSH if arguments.shell == "zsh" else "") + _script(commands)
    if not (arguments.json or arguments.quiet):
        print(script, end="")
    return {"shell": arguments.shell, "script": script}


def _script(commands: dict[str, argparse.ArgumentParser]) -> str:
    known = {"--recipe": _recipes()}
    values, flags = [], []
    for name, parser in commands.items():
        actions = [action for action in parser._actions if action.option_strings]
        flags.append(_case(name, [flag for action in actions for flag in action.option_strings]))
        for action in actions:
            words = [str(choice) for choice in action.choices or known.get(action.option_strings[-1]) or ()]
            values += [_case(f"{name} {flag}", words) for flag in action.option_strings if words]
        values += [
            _case(f"{name} {name}", [str(c) for c in action.choices])
            for action in parser._actions
            if action.choices and not action.option_strings
        ]
    return _BASH.format(commands=" ".join(commands), values="\n".join(values), options="\n".join(flags))


def _case(pattern: str, words: list[str]) -> str:
    return f'            "{pattern}") words="{" ".join(words)}" ;;'


def _recipes() -> list[str]:
    # Their files, not `Recipe.names()`: that would import TensorFlow to list a folder.
    folder = Path(__file__).parents[2] / "compression" / "recipes"
    return sorted(file.stem for file in folder.glob("*.yaml"))
