"""What a file says about itself comes back, in few bytes, and what is damaged is an error."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfbig.exporters.facts import decode, encode

NAMES = st.text(max_size=20)


@given(st.dictionaries(NAMES, NAMES), NAMES)
def test_facts_come_back(reasons, scheme):
    facts = decode(encode({"float_ops": reasons, "quantization": scheme}))
    assert facts["float_ops"] == reasons and facts["quantization"] == scheme


def test_a_reason_stands_once():
    reasons = {f"network/layer_{n}/Add": "a long sentence that says why this operation is float" for n in range(100)}
    assert len(encode({"float_ops": reasons})) < 600


def test_facts_of_version_1_are_read():
    old = json.dumps({"version": 1, "float_ops": {"a": "why"}, "quantization": "int8"}).encode() + b"\0\0"
    assert decode(old)["float_ops"] == {"a": "why"}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[1]", b"{", zlib.compress(b"[1]"), zlib.compress(b"{}")[:6]])
def test_damage_is_an_error(content):
    with pytest.raises(ValueError):  # noqa: PT011 - by zlib, json or this module
        decode(content)
