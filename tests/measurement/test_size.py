"""Raw and gzipped sizes against the gzip and tar of the standard library."""

import gzip
import io
import tarfile

import numpy as np

from tfbig.measurement.size import gzip_bytes, raw_bytes


def test_a_file_weighs_what_gzip_9_gives(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(np.random.default_rng(0).integers(0, 4, 300_000, dtype=np.uint8).tobytes())
    assert raw_bytes(file) == 300_000
    assert gzip_bytes(file) == len(gzip.compress(file.read_bytes(), 9))


def test_a_folder_weighs_its_files_and_its_tar(tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "graph.pb").write_bytes(b"graph" * 999)
    (folder / "variables" / "data").write_bytes(bytes(range(256)) * 40)
    assert raw_bytes(folder) == 5 * 999 + 256 * 40
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("graph.pb", "variables/data"):
            member = tarfile.TarInfo(name)
            member.size = (folder / name).stat().st_size
            archive.addfile(member, io.BytesIO((folder / name).read_bytes()))
    assert gzip_bytes(folder) == len(gzip.compress(tar.getvalue(), 9))


def test_a_folder_weighs_the_same_tomorrow(tmp_path):
    import os

    file = tmp_path / "saved" / "graph.pb"
    file.parent.mkdir()
    file.write_bytes(b"graph")
    before = gzip_bytes(file.parent)
    os.utime(file, (1, 1))
    assert gzip_bytes(file.parent) == before
