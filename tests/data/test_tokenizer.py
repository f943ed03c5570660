"""The tokenizer: ids by frequency, the same from its JSON, and as a data set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfbig
from tfbig.data import Tokenizer
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile

TEXTS = ["The cat, the dog", "the CAT 07 sat!", b"d\xc3\xa9j\xc3\xa0-vu 12"]


def test_ids_are_by_frequency_then_alphabet():
    tokenizer = Tokenizer.fit(TEXTS, length=6)
    assert tokenizer.vocabulary[:4] == ("[PAD]", "[UNK]", "the", "cat")
    assert tokenizer.vocabulary[4:] == ("!", ",", "-", "07", "12", "dog", "déjà", "sat", "vu")
    assert tokenizer.vocabulary == Tokenizer.fit(TEXTS[::-1], length=6).vocabulary
    np.testing.assert_array_equal(tokenizer.encode(["The  cat bites", ""]), [[2, 3, 1, 0, 0, 0], [0] * 6])
    assert tokenizer.encode(["the " * 9]).tolist() == [[2] * 6]
    assert tokenizer.decode(tokenizer.encode(["Cat, dog"])) == ["cat , dog"]


def test_vocabulary_is_cut_and_digits_fold():
    tokenizer = Tokenizer.fit(TEXTS, size=5, length=4, fold_digits=True, specials=("[START]",))
    assert tokenizer.vocabulary == ("[PAD]", "[UNK]", "[START]", "the", "00")
    assert tokenizer.encode(["99 [START]"]).tolist() == [[4, 1, 1, 1]]


@given(st.lists(st.text(), min_size=1, max_size=5), st.integers(1, 9), st.booleans())
def test_json_gives_the_same_tokenizer(texts, length, fold):
    tokenizer = Tokenizer.fit(["word", *texts], length=length, fold_digits=fold)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again == tokenizer
    ids = again.encode(texts)
    assert ids.shape == (len(texts), length) and ids.dtype == np.int32 and not np.any(ids == 1)


def test_data_of_strings_becomes_data_of_ids(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{'yes' if n % 3 else 'no'}\tnumber {n}\n" for n in range(40)), encoding="utf-8")
    data = tfbig.data.load(f"text:{path}", batch_size=8)
    tokenizer = Tokenizer.fit(data.train, length=3)
    tokens = tokenizer.applied_to(data)
    assert tokens.spec.input_shape == (3,) and tokens.spec.class_names == ("no", "yes")
    for (ids, labels), (texts, same) in zip(tokens.test, data.test, strict=True):
        np.testing.assert_array_equal(ids, tokenizer.encode(texts.numpy()))
        np.testing.assert_array_equal(labels, same)
    assert tokens.train.element_spec[0].shape.as_list() == [None, 3]
    with pytest.raises(InvalidData, match="takes single texts, received inputs of type int32 and shape \\(3,\\)"):
        tokenizer.applied_to(tokens)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Tokenizer.fit([" "]), InvalidData, "`texts` has no words, expected at least one"),
        (lambda: Tokenizer.fit(TEXTS, size=2), InvalidArgument, "`size` must be a whole number of at least 3"),
        (lambda: Tokenizer.fit(TEXTS, length=0), InvalidArgument, "`length` must be a whole number of at least 1"),
        (lambda: Tokenizer(("a", "b"), 3), InvalidArgument, "must begin with '\\[PAD\\]' and '\\[UNK\\]'"),
        (lambda: Tokenizer.from_json("{}"), InvalidFile, "The text is no tokenizer: .*Tokenizer.to_json gives"),
        (lambda: Tokenizer.from_json("[1]"), InvalidFile, "The text is no tokenizer"),
        (lambda: Tokenizer.from_json('{"version": 2}'), InvalidFile, "its version is another"),
    ],
)
def test_what_makes_no_tokenizer_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
