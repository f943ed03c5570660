"""What the shell offers, asked of a real shell."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tfbig.cli.main import commands
from tfbig.compression.recipe import Recipe

ASK = """
source ./script
COMP_WORDS=({words})
COMP_CWORD={position}
_tfbig
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def offered(tfbig_command, tmp_path):
    outcome = tfbig_command("completion", "bash")
    assert (outcome.code, outcome.err) == (0, "")
    (tmp_path / "script").write_text(outcome.out)

    def ask(*words: str) -> set[str]:
        given = " ".join(f"'{word}'" for word in ("tfbig", *words))
        script = ASK.format(words=given, position=len(words))
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    return ask


def test_commands(offered):
    assert offered("") == {*commands.names(), "--help", "--version"}
    assert offered("ex") == {"export"}


def test_options_of_each_command(offered):
    assert {"--data", "--recipe", "--out", "--json", "--quiet"} <= offered("compress", "m.keras", "-")
    assert offered("export", "m.keras", "m.tflite", "--qua") == {"--quantize"}
    assert all("--help" in offered(name, "--") for name in commands.names())


def test_names_that_an_option_takes(offered):
    assert offered("compress", "--recipe", "") == set(Recipe.names())
    assert offered("completion", "") == {"bash", "zsh"}


def test_files_are_left_to_the_shell(offered):
    assert offered("measure", "some") == set()


def test_zsh_reads_the_same_script(tfbig_command):
    bash, zsh = (tfbig_command("completion", shell).out for shell in ("bash", "zsh"))
    assert zsh.endswith(bash) and "bashcompinit" in zsh and "bashcompinit" not in bash


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_understands_it(tfbig_command, tmp_path):
    (tmp_path / "script").write_text(tfbig_command("completion", "zsh").out)
    subprocess.run(["zsh", "-fc", "source ./script"], cwd=tmp_path, check=True)


def test_an_unknown_shell_is_a_usage_error(tfbig_command):
    outcome = tfbig_command("completion", "fish")
    assert outcome.code == 2 and "invalid choice: 'fish'" in outcome.err
