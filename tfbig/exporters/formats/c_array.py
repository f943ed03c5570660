"""The LiteRT file as a C array (`.cc`, `.c`) with its header (`.h`), for microcontrollers without a file system."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras

from tfbig.exporters.formats import litert
from tfbig.exporters.post_training import PostTraining

suffixes = (".cc", ".c")
_ALIGNED = {".cc": "alignas(16)", ".c": "_Alignas(16)"}  # LiteRT for Microcontrollers reads tensors in place.
_PER_LINE = 12


def write(
    model: keras.Model,
    path: Path,
    *,
    quantize: str | PostTraining | None = None,
    calibration: Any = None,
) -> dict[str, Any]:
    """Writes `NAME.cc` with `NAME_data` and `NAME_data_size`, and `NAME.h` that declares them.

    Args:
        quantize, calibration: as of `tfbig.export` for LiteRT.
    """
    file = path.with_suffix(".tflite")
    facts = litert.write(model, file, quantize=quantize, calibration=calibration, sparse=False)
    content = file.read_bytes()
    file.unlink()
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    name = f"model_{name}" if name[0].isdigit() else name
    path.write_text(_source(content, name, path), encoding="utf-8")
    path.with_suffix(".h").write_text(_header(name), encoding="utf-8")
    return facts


def _source(content: bytes, name: str, path: Path) -> str:
    lines = (content[start : start + _PER_LINE] for start in range(0, len(content), _PER_LINE))
    array = ",\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in line) for line in lines)
    return (
        f"// Written by tfbig: a LiteRT file of {len(content)} bytes.\n"
        f'#include "{path.with_suffix(".h").name}"\n\n'
        f"{_ALIGNED[path.suffix]} const unsigned char {name}_data[] = {{\n{array}}};\n\n"
        f"const unsigned int {name}_data_size = {len(content)};\n"
    )


def _header(name: str) -> str:
    guard = f"{name.upper()}_H_"
    return (
        f"#ifndef {guard}\n#define {guard}\n\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
        f"extern const unsigned char {name}_data[];\nextern const unsigned int {name}_data_size;\n\n"
        f"#ifdef __cplusplus\n}}\n#endif\n\n#endif  // {guard}\n"
    )
