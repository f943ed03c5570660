"""Every error says the argument, what was expected, what was received, and the next step."""

from __future__ import annotations

import inspect
import math
import pickle

import pytest

from tfbig import errors
from tfbig.errors import InvalidArgument, TfbigError, check_range, nearest, unknown

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TfbigError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_caught_by_their_builtin_kind_and_cross_processes(kind):
    again = pickle.loads(pickle.dumps(kind("`a` must be b.")))
    assert type(again) is kind and str(again) == "`a` must be b."
    assert kind is TfbigError or any(base in Exception.__subclasses__() for base in kind.__mro__[1:-1])


@pytest.mark.parametrize(
    ("name", "suggested"), [("prun", "prune"), ("PRUNE", "prune"), ("quantise", "quantize"), ("xyz", None), ("", None)]
)
def test_nearest_name(name, suggested):
    assert nearest(name, ["prune", "quantize"]) == (f" Did you mean '{suggested}'?" if suggested else "")


def test_unknown_name_lists_what_is_known():
    assert str(unknown("recipe", "smal", ["small", "int8"])) == (
        "Unknown recipe 'smal'. Known: int8, small. Did you mean 'small'?"
    )


@pytest.mark.parametrize(
    ("closed", "good", "bad", "span"),
    [
        ("both", [0, 1, 0.5], [-1e-9, 1.01], "[0, 1]"),
        ("left", [0, 0.99], [1, -1], "[0, 1)"),
        ("right", [1, 0.01], [0], "(0, 1]"),
        ("neither", [0.5], [0, 1], "(0, 1)"),
    ],
)
def test_ranges(closed, good, bad, span):
    for value in good:
        check_range("share", value, 0, 1, closed=closed)
    for value in [*bad, math.nan, "0.5", None, True]:
        with pytest.raises(InvalidArgument) as caught:
            check_range("share", value, 0, 1, closed=closed)
        assert str(caught.value) == f"`share` must be in {span}, received {value!r}."
