"""A crash, a hang or a flood of messages in the child process is an error message here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import isolated_functions
import pytest

from tfbig import isolation
from tfbig.errors import ConversionFailed, InvalidFile
from tfbig.isolation import run_isolated

HERE = "isolated_functions:"


def run(function: str, *args, **options):
    return run_isolated(f"{HERE}{function}", *args, worker="test", **options)


@pytest.fixture(autouse=True, scope="module")
def workers_end():
    yield
    isolation.shut_down()


def test_result_comes_back_and_chatter_does_not(capfd):
    total, process = run("add", 2, b=3)
    assert total == 5 and process != os.getpid()
    assert capfd.readouterr() == ("", "")


def test_one_child_serves_many_calls_and_large_data():
    data = os.urandom(3_000_000)
    assert run("add", 1, b=1)[1] == run("add", 1, b=1)[1]
    assert run("size", data) == (len(data), data)


def test_own_errors_pass_through():
    with pytest.raises(InvalidFile, match="^`x.tflite` is not a LiteRT file.$"):
        run("refuse")


def test_other_errors_are_named():
    with pytest.raises(ConversionFailed, match="^`fail` failed: ZeroDivisionError: one divided by zero$"):
        run("fail")


def test_crash_is_told_with_the_last_words_and_the_next_call_works():
    text = r"^`crash` was killed by SIGSEGV in its child process.\nIts last words:\n  CHECK failed: the converter is"
    with pytest.raises(ConversionFailed, match=text):
        run("crash")
    assert run("add", 1, b=2)[0] == 3


def test_exit_is_told():
    with pytest.raises(ConversionFailed, match="^`leave` ended with exit code 7 in its child process."):
        run("leave")
    assert run("add", 1, b=2)[0] == 3


def test_result_that_cannot_be_sent_is_told():
    with pytest.raises(ConversionFailed, match=r"^`unpicklable` ended with exit code 1(.|\n)*pickle"):
        run("unpicklable")
    assert run("add", 1, b=2)[0] == 3


def test_hang_is_ended():
    started = time.monotonic()
    with pytest.raises(ConversionFailed, match="^`hang` did not finish within 0.5 s and was stopped."):
        run("hang", timeout=0.5)
    assert time.monotonic() - started < 20
    assert run("add", 1, b=2)[0] == 3


def test_interrupt_ends_the_child_and_its_answer_is_not_mistaken_for_the_next(monkeypatch):
    first = run("add", 1, b=2)[1]

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(isolation.select, "select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("add", 10, b=20)
    total, process = run("add", 3, b=4)
    assert total == 7 and process != first


def test_interpreter_children_start_without_tensorflow():
    assert run("imported") == []


def test_files_in_the_current_folder_do_not_stand_for_libraries(tmp_path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path)
    isolation.shut_down()
    assert run("module_path", "colorsys") == __import__("colorsys").__file__
    isolation.shut_down()


@pytest.mark.parametrize("busy_with", ["add', 1, b=1)", "hang')"])
def test_children_end_with_a_killed_parent(busy_with):
    script = (
        "import os, signal, threading, time\nfrom tfbig.isolation import run_isolated\n"
        "print(run_isolated('isolated_functions:add', 1, b=1)[1], flush=True)\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        f"run_isolated('isolated_functions:{busy_with}\n"
        "time.sleep(60)"
    )
    paths = os.pathsep.join([os.path.dirname(isolated_functions.__file__), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    deadline = time.monotonic() + 20
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(child)


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
