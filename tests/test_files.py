"""Files and folders appear whole or not at all, and what was there before is never lost."""

from __future__ import annotations

import errno
import os

import pytest
import tensorflow as tf

from tfbig import files
from tfbig.errors import OutputExists
from tfbig.files import (
    atomic_file,
    atomic_files,
    atomic_folder,
    full_disk_as_os_error,
    refuse_existing,
    set_aside,
)


def test_file_appears_whole(tmp_path):
    with atomic_file(tmp_path / "new" / "a.txt") as partial:
        assert partial.suffix == ".txt"
        partial.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert os.listdir(tmp_path / "new") == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_leaves_nothing_new_and_everything_old(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise error
    with pytest.raises(error), atomic_folder(tmp_path / "folder", overwrite=True) as partial:
        (partial / "mine").write_text("half")
        raise error
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "folder"]
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "folder" / "mine").read_text() == "old"


def test_folder_replaces_what_was_there_as_a_whole(tmp_path):
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "folder", overwrite=True) as partial:
            (partial / content).write_text(content)
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(tmp_path / "folder") == ["two"]


def test_folder_may_be_written_where_a_file_is_expected(tmp_path):
    for content in ("one", "two"):
        with atomic_file(tmp_path / "saved_model") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert os.listdir(tmp_path / "saved_model") == ["two"]


def test_stopped_between_the_two_renames(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("old")
    replace, calls = os.replace, []

    def stopped(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder", overwrite=True) as partial:
        (partial / "new").write_text("new")
    assert os.listdir(tmp_path) == ["folder"] and (tmp_path / "folder" / "mine").read_text() == "old"


def test_existing_output_is_refused_by_name(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    refuse_existing(tmp_path / "nothing", overwrite=False)
    refuse_existing(tmp_path / "empty", overwrite=False)
    refuse_existing(tmp_path / "a.txt", overwrite=True)
    text = r"`.*a.txt` exists already. Choose another output, or replace it with overwrite=True \(--overwrite\)."
    with pytest.raises(OutputExists, match=text):
        refuse_existing(tmp_path / "a.txt", overwrite=False)
    with pytest.raises(OutputExists, match=text), atomic_folder(tmp_path / "a.txt"):
        pytest.fail("the folder must not be opened")


@pytest.mark.parametrize("output", [".", ".."])
def test_current_folder_is_never_replaced(tmp_path, monkeypatch, output):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with pytest.raises(OutputExists, match="is the current folder or holds it, and is not replaced. Name a folder"):
        refuse_existing(output, overwrite=True)


def test_files_that_belong_together_appear_together(tmp_path):
    with atomic_files(tmp_path / "a.cc") as partial:
        partial.write_text("source")
        partial.with_suffix(".h").write_text("header")
        assert os.listdir(tmp_path) == [partial.parent.name]
    assert sorted(os.listdir(tmp_path)) == ["a.cc", "a.h"]
    with pytest.raises(ZeroDivisionError), atomic_files(tmp_path / "a.cc") as partial:
        partial.write_text("half")
        partial.with_suffix(".h").write_text("half")
        _ = 1 / 0
    assert (tmp_path / "a.cc").read_text() == "source" and (tmp_path / "a.h").read_text() == "header"
    (tmp_path / "a.cc").unlink()
    refused = pytest.raises(OutputExists, match="a.h` exists already")
    with refused, atomic_files(tmp_path / "a.cc", overwrite=False) as partial:
        partial.write_text("new")
        partial.with_suffix(".h").write_text("new")
    assert os.listdir(tmp_path) == ["a.h"]


def test_what_is_set_aside_comes_back_or_goes(tmp_path):
    folder, before = tmp_path / "found", tmp_path / "found.before"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt), set_aside(folder, wanted=True):
        raise KeyboardInterrupt
    assert (folder / "mine.txt").read_text() == "mine" and not before.exists()
    with pytest.raises(RuntimeError), set_aside(folder, wanted=True):
        folder.mkdir()
        raise RuntimeError
    assert (before / "mine.txt").read_text() == "mine" and list(folder.iterdir()) == []
    with pytest.raises(OutputExists, match="found.before` exists already"), set_aside(folder, wanted=True):
        pass
    before.rename(tmp_path / "elsewhere")
    with set_aside(folder, wanted=True):
        folder.mkdir()
        (folder / "new.txt").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new.txt"] and not before.exists()
    with set_aside(folder, wanted=False):
        assert (folder / "new.txt").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_an_os_error_whatever_tensorflow_calls_it(code):
    with pytest.raises(OSError, match=os.strerror(code)) as found, full_disk_as_os_error():
        raise tf.errors.OutOfRangeError(None, None, f"/tmp/variables.data; {os.strerror(code)} [Op:SaveV2]")
    assert found.value.errno == code
    with pytest.raises(tf.errors.UnknownError, match="something else"), full_disk_as_os_error():
        raise tf.errors.UnknownError(None, None, "something else")
