"""Damaged LiteRT files: each gets a clear error, none takes this process down."""

import numpy as np
import pytest

from tfbig.errors import InvalidFile, TfbigError
from tfbig.measurement.inspect import inspect
from tfbig.measurement.litert import run_litert
from tfbig.measurement.measure import measure

CASES = {
    "empty": (lambda whole: b"", r"is empty \(0 bytes\), expected a LiteRT file"),
    "wrong magic": (lambda whole: whole[:4] + b"XXXX" + whole[8:], r"not a LiteRT file: expected.*received b'XXXX'"),
    "a zip": (lambda whole: b"PK\x03\x04" + bytes(60), "it is a zip file, as .keras files are"),
    "half": (lambda whole: whole[: len(whole) // 2], "is damaged .*truncated or altered"),
    "all but a byte": (lambda whole: whole[:-1], "is damaged .*truncated or altered"),
    "a few bytes": (lambda whole: whole[:12], "is damaged"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("function", [inspect, measure, lambda path: run_litert(path, [np.zeros((1, 8, 8, 1))])])
def test_damaged_files_are_named(case, function, float_file, tmp_path):
    damage, message = CASES[case]
    path = tmp_path / "bad.tflite"
    path.write_bytes(damage(float_file.read_bytes()))
    with pytest.raises(InvalidFile, match=message) as error:
        function(path)
    assert "bad.tflite" in str(error.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InvalidFile, match="No file `.*gone.tflite`. Check the path, or write it with tfbig.export"):
        inspect(tmp_path / "gone.tflite")
    with pytest.raises(InvalidFile, match="is a folder, expected a LiteRT file"):
        inspect(tmp_path)


def test_a_tensor_that_claims_too_much_is_refused_before_it_is_allocated(float_file, tmp_path):
    content = bytearray(float_file.read_bytes())
    shape = np.array([16, 3, 3, 1], "<i4").tobytes()
    position = content.index(shape)
    content[position : position + 4] = (2**30).to_bytes(4, "little")
    path = tmp_path / "huge.tflite"
    path.write_bytes(content)
    with pytest.raises(InvalidFile, match="would take 38,654,705,664 bytes"):
        inspect(path)


def test_random_damage_never_gets_through(float_file, int8_file, sparse_file, recurrent_file, tmp_path):
    random = np.random.default_rng(7)
    wholes = [p.read_bytes() for p in (float_file, int8_file, sparse_file, recurrent_file[0])]
    path, refused = tmp_path / "damaged.tflite", 0
    for number in range(60):
        content = bytearray(wholes[number % len(wholes)])
        for position in random.integers(0, len(content), random.integers(1, 6)):
            content[position] ^= 1 << random.integers(8)
        path.write_bytes(content if number % 3 else content[: random.integers(1, len(content))])
        try:
            inspect(path)
            measure(path, runs=2)
        except TfbigError as error:
            refused += 1
            assert "damaged.tflite" in str(error)
    assert refused >= 40
