"""Damages whole files in the ways that files get damaged, by accident or by someone who means harm; seeded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]


def truncated(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(0, len(content))]


def flipped(content: bytes, random: np.random.Generator) -> bytes:
    """A few bits, anywhere."""
    damaged = bytearray(content)
    for position in random.integers(0, len(damaged), random.integers(1, 9)):
        damaged[position] ^= 1 << random.integers(8)
    return bytes(damaged)


def flipped_at_the_head(content: bytes, random: np.random.Generator) -> bytes:
    """Bits where formats keep what the rest depends on."""
    head = min(256, len(content))
    return flipped(content[:head], random) + content[head:]


def wrong_magic(content: bytes, random: np.random.Generator) -> bytes:
    return random.bytes(8) + content[8:]


def huge_size(content: bytes, random: np.random.Generator) -> bytes:
    """A small number somewhere becomes as large as it can."""
    damaged = bytearray(content)
    small = [i for i in range(0, len(damaged) - 4, 4) if 0 < int.from_bytes(damaged[i : i + 4], "little") < 4096]
    place = small[random.integers(len(small))] if small else 0
    damaged[place : place + 4] = random.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x40"])
    return bytes(damaged)


def random_middle(content: bytes, random: np.random.Generator) -> bytes:
    """A block of noise, as a broken disk leaves it."""
    start = int(random.integers(0, len(content)))
    size = int(random.integers(1, 512))
    return content[:start] + random.bytes(size) + content[start + size :]


def doubled(content: bytes, random: np.random.Generator) -> bytes:
    """A part of the file comes twice."""
    start, stop = sorted(random.integers(0, len(content), 2))
    return content[:stop] + content[start:]


DAMAGES: tuple[Damage, ...] = (
    *(truncated, flipped, flipped_at_the_head, wrong_magic, huge_size, random_middle, doubled),
)


def path_tricks(content: bytes, place: str) -> bytes:
    """A `.keras` archive with one more entry, whose name leads elsewhere."""
    archive = io.BytesIO(content)
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr(place, "written outside")
    return archive.getvalue()


def malformed(wholes: list[Path], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged copies of the files in turn, and what was done to each."""
    random = np.random.default_rng(seed)
    contents = [whole.read_bytes() for whole in wholes]
    for number in range(count):
        damage = DAMAGES[number % len(DAMAGES)]
        yield f"{number} {damage.__name__}", damage(contents[number % len(contents)], random)
