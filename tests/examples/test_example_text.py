"""`text.py` tells spam, its tokenizer inside the file."""

from __future__ import annotations

import re

from running import figures_of, run, run_quick


def test_text(tmp_path):
    told = run_quick("text", tmp_path)
    table = figures_of(told)
    assert list(table) == ["float", "1 quantize int8"]
    assert 0.8 < table["float"] < 1 and abs(table["1 quantize int8"] - table["float"]) < 0.05
    assert len(re.findall(r"^(?:ham|spam) +\d+%  \((?:ham|spam)\)  ", told, re.MULTILINE)) == 8
    done = run("text", tmp_path, "predict", "claim the prize at 5550001234 now")
    assert done.returncode == 0 and done.stdout.startswith("spam"), done.stderr[-3000:]


def test_text_says_where_another_encoding_begins(tmp_path):
    (tmp_path / "latin.tsv").write_bytes("ham\tgood\nspam\tcaf\xe9\n".encode("latin-1"))
    done = run("text", tmp_path, "latin.tsv")
    assert done.returncode == 1 and "must be UTF-8 text, received byte 0xe9 in line 2" in done.stderr


def test_text_says_that_the_model_is_another(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    done = run("text", tmp_path, "predict", "hello", "model.tflite")
    assert done.returncode == 1 and "carries no tokenizer.json. Give a file that text.py has saved" in done.stderr
    done = run("text", tmp_path, "predict", "hello", "nothing.tflite")
    assert done.returncode == 1 and "There is no model `nothing.tflite`" in done.stderr
