"""Labels and vocabularies travel inside the model's own file, and leave the model as it is."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidArgument, InvalidFile
from tfbig.exporters.associated_files import read_associated_files

FILES = {"labels.txt": "katze\nhündin\n", "vocabulary.txt": "\n[UNK]\nthe\n"}


@pytest.mark.parametrize("name", ["a.tflite", "a.keras", "a_saved_model"])
def test_files_come_back_and_the_model_works_as_before(small_model, fresh_digits, tmp_path, name):
    plain = tfbig.export(small_model, tmp_path / f"plain_{name}")
    path = tfbig.export(small_model, tmp_path / name, associated_files=FILES)
    assert read_associated_files(path) == FILES and read_associated_files(plain) == {}
    before, after = (tfbig.measure(p, fresh_digits(), latency=False) for p in (plain, path))
    assert after.quality == before.quality and after.parameters == before.parameters
    assert after.bytes > before.bytes


def test_litert_file_is_the_model_with_a_zip_archive_behind_it(small_model, tmp_path):
    plain = tfbig.export(small_model, tmp_path / "plain.tflite", quantize="dynamic")
    path = tfbig.export(small_model, tmp_path / "a.tflite", quantize="dynamic", associated_files=FILES)
    assert path.read_bytes().startswith(plain.read_bytes())
    again = tfbig.export(small_model, tmp_path / "b.tflite", quantize="dynamic", associated_files=FILES)
    assert path.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert [op.type for op in tfbig.inspect(path).ops] == [op.type for op in tfbig.inspect(plain).ops]


def test_keras_file_loads(small_model, tmp_path):
    model = tfbig.load(tfbig.export(small_model, tmp_path / "a.keras", associated_files=FILES))
    for one, other in zip(model.get_weights(), small_model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_reading_needs_no_tensorflow():
    script = (
        "import sys, tfbig.exporters.associated_files; print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["labels.txt"], "`associated_files` must map file names to text, received list"),
        ({"a/b.txt": "x"}, "plain file names to text, .* received 'a/b.txt': str"),
        ({"a.txt": b"x"}, "plain file names to text, .* received 'a.txt': bytes"),
    ],
)
def test_what_is_no_file_is_refused(small_model, tmp_path, files, message):
    with pytest.raises(InvalidArgument, match=message):
        tfbig.export(small_model, tmp_path / "a.tflite", associated_files=files)


def test_other_formats_are_refused_by_name(tmp_path):
    from tfbig.exporters.associated_files import check_associated_files

    with pytest.raises(InvalidArgument, match="does not apply to 'a.onnx'. It is for .tflite, .keras and SavedModel"):
        check_associated_files(FILES, tmp_path / "a.onnx")


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(InvalidFile, match="There is no model `.*gone.tflite`. Check the path"):
        read_associated_files(tmp_path / "gone.tflite")
