"""`translate.py` translates from one file, word for word as the Keras model does."""

from __future__ import annotations

import re

from running import run, run_quick

from tfbig.measurement.flatbuffer import read_litert


def translations(told: str) -> dict[str, tuple[float, float]]:
    """Exact match of each writer and search, and the percentage of sentences that are token by token Keras's."""
    rows = re.findall(r"^(.+, (?:greedy|4 beams)): exact match ([\d.]+)  BLEU [\d.]+  as Keras ([\d.]+)%$", told, re.M)
    return {name: (float(exact), float(same)) for name, exact, same in rows}


def test_translate(tmp_path):
    told = run_quick("translate", tmp_path)
    found = translations(told)
    assert len(found) == 6 and found["Keras, greedy"][0] > 0.5
    for search in ("greedy", "4 beams"):
        assert found[f"LiteRT, float, {search}"] == (found[f"Keras, {search}"][0], 100)
        assert found[f"LiteRT, int8, {search}"][0] > found[f"Keras, {search}"][0] - 0.1
    files = {name: tmp_path / "saved_models" / "translate" / f"{name}.tflite" for name in ("float", "int8")}
    assert read_litert(files["float"]).signatures == ("encode", "decode_step")
    assert files["int8"].stat().st_size < 0.6 * files["float"].stat().st_size
    for file in files.values():
        done = run("translate", tmp_path, "predict", "two hundred and one", str(file))
        assert done.returncode == 0 and done.stdout.startswith("deux cent"), done.stderr[-3000:]


def test_translate_any_pairs(tmp_path):
    """A corpus of one's own: here numerals and their digits backwards."""
    lines = [f"n{n}\t{' '.join(reversed(str(n)))}\tignored" for n in range(100, 160)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run("translate", tmp_path, "--pairs", "pairs.tsv", "--quick", "--epochs", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("36 pairs to learn from")
    assert translations(done.stdout)["LiteRT, float, greedy"][1] == 100


def test_translate_says_what_is_wrong(tmp_path):
    (tmp_path / "pairs.tsv").write_text("one\tun\n" * 12 + "two deux\n", encoding="utf-8")
    done = run("translate", tmp_path, "--pairs", "pairs.tsv")
    assert done.returncode == 1 and "received 13 lines, of which 12 are such pairs" in done.stderr
    (tmp_path / "latin.tsv").write_bytes("zero\tz\xe9ro\n".encode("latin-1"))
    done = run("translate", tmp_path, "--pairs", "latin.tsv")
    assert done.returncode == 1 and "must be UTF-8 text, received byte 0xe9 in line 1" in done.stderr
