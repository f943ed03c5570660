"""From English to French: a T5-style encoder-decoder that writes word by word, from one LiteRT file with a cache.

    python examples/translate.py --pairs FILE      lines of source<TAB>target, in UTF-8
    python examples/translate.py --quick           numbers in words, which it makes itself; also the default, with more
    python examples/translate.py predict "two hundred and one" saved_models/translate/int8.tflite

Numbers are a small language with real irregularities ("quatre-vingt-dix-sept", "deux cents" but "deux cent un"), and
the test split holds numbers that training never saw. Prints exact match and BLEU by greedy and by beam search (BLEU
needs sacrebleu: pip install sacrebleu), first of the Keras model, then of float.tflite and int8.tflite with NumPy
alone, and how many of their sentences are token by token those of the Keras model. Each file has two signatures,
`encode` and `decode_step`, and carries its tokenizer. They are in saved_models/translate.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfbig
from tfbig.data import Tokenizer
from tfbig.exporters.associated_files import read_associated_files
from tfbig.measurement.litert import run_litert
from tfbig.models.decoding import Writer

try:
    import sacrebleu
except ImportError:
    sys.exit("translate.py needs sacrebleu: pip install sacrebleu")

OUT = Path("saved_models/translate")
SPECIALS = ("[START]", "[END]")
START, END = 2, 3  # their ids
STEP_INPUTS = ("source", "source_keys", "source_values", "token", "position", "keys", "values")
Pairs = list[tuple[str, str]]


def main(file: str | None, quick: bool, epochs: int | None) -> dict[str, float]:
    """Trains, prunes, exports and translates; returns the share of exact translations of each, by greedy search."""
    pairs = read(Path(file)) if file else [(english(n), french(n)) for n in range(1000 if quick else 10_000)]
    pairs = [pairs[n] for n in np.random.default_rng(0).permutation(len(pairs))]
    tests = min(len(pairs) // 5, 100 if quick else 500)
    test, validation, train = pairs[:tests], pairs[tests : 2 * tests], pairs[2 * tests :]
    length = 1 + max(len(Tokenizer.fit([text]).split(text)) for pair in pairs for text in pair)
    tokenizer = Tokenizer.fit((text for pair in train for text in pair), length=min(length, 64), specials=SPECIALS)
    splits = {"train": dataset(train, tokenizer, shuffle=True), "validation": dataset(validation, tokenizer)}
    splits["test"] = dataset(test, tokenizer)
    print(f"{len(train)} pairs to learn from, {len(tokenizer.vocabulary)} tokens", flush=True)

    keras.utils.set_random_seed(0)
    sizes = {"width": 48, "depth": 1, "mlp": 96} if quick else {"width": 96, "depth": 2, "mlp": 192}
    model = tfbig.models.build(
        "seq2seq",
        vocabulary=len(tokenizer.vocabulary),
        source_length=tokenizer.length,
        target_length=tokenizer.length,
        dropout=0.0 if quick else 0.1,
        **sizes,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    epochs = epochs or (40 if quick else 15)
    tfbig.training.fit(
        model,
        splits["train"],
        validation_data=splits["validation"],
        epochs=epochs,
        loss=loss,
        learning_rate=5e-3 if quick else 2e-3,
        schedule="cosine",
        warmup=0.05,
        verbose=2,
    )
    result = tfbig.compress(
        model,
        [tfbig.Prune(sparsity=0.5)],
        **splits,
        epochs=max(2, epochs // 3),
        learning_rate=1e-3,
        loss=loss,
        metric=next_token_accuracy,
        verbose=2,
    )
    print(result)
    result = result.save(OUT, overwrite=True)
    writers = {"Keras": result.model.parts().writer(start=START, end=END)}
    for quantize in (None, "int8"):
        file = write_file(result.model, tokenizer, train[:40], quantize)
        writers[f"LiteRT, {file.stem}"] = writer_of(file)
    return compare(writers, test, tokenizer)


def compare(writers: dict[str, Writer], test: Pairs, tokenizer: Tokenizer) -> dict[str, float]:
    """Prints how good the translations of each writer are, and how many are token by token those of the first."""
    sources = tokenizer.encode([source for source, _ in test])
    wanted = [" ".join(tokenizer.split(target)) for _, target in test]
    found, first = {}, {}
    for name, writer in writers.items():
        for search, beams in (("greedy", 1), ("4 beams", 4)):
            tokens = dataclasses.replace(writer, beams=beams)(sources)
            translated = words(tokens, tokenizer)
            bleu = sacrebleu.corpus_bleu(translated, [wanted], tokenize="none", force=True).score
            exact = float(np.mean([got == want for got, want in zip(translated, wanted, strict=True)]))
            same = np.mean((tokens == first.setdefault(search, tokens)).all(1))
            print(f"{name}, {search}: exact match {exact:.3f}  BLEU {bleu:.1f}  as Keras {same:.1%}", flush=True)
            found.setdefault(name, exact)
        print(f"  {test[0][0]} -> {translated[0].replace(' - ', '-')}")
    return found


def words(tokens: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    return tokenizer.decode(np.where(tokens == END, 0, tokens))


def write_file(model: keras.Model, tokenizer: Tokenizer, some: Pairs, quantize: str | None) -> Path:
    """Writes the encoder and the decoder's step; what they are given while they translate `some` shows the ranges."""
    parts, seen = model.parts(), []
    writer = parts.writer(start=START, end=END)

    def recorded(*inputs: np.ndarray) -> list[np.ndarray]:
        seen.append(inputs)
        return writer.decode_step(*inputs)

    sources = tokenizer.encode([source for source, _ in some])
    dataclasses.replace(writer, decode_step=recorded)(sources)
    steps = [np.concatenate(column)[:: len(seen)] for column in zip(*seen, strict=True)]
    file = tfbig.export(
        {"encode": parts.encode, "decode_step": parts.decode_step},
        OUT / f"{quantize or 'float'}.tflite",
        quantize=quantize,
        calibration={"encode": [sources], "decode_step": steps} if quantize else None,
        associated_files={"tokenizer.json": tokenizer.to_json()},
    )
    print(f"{file}: {file.stat().st_size:,} bytes")
    return file


def writer_of(file: Path) -> Writer:
    """Writes with a LiteRT file; the cache has the shape of what its encoder gives."""
    length = tokenizer_of(file).length
    keys, _ = run_litert(file, [np.zeros((1, length), np.int32)], signature="encode")
    return Writer(
        encode=lambda source: run_litert(file, [source], signature="encode"),
        decode_step=lambda *inputs: run_litert(
            file, dict(zip(STEP_INPUTS, inputs, strict=True)), signature="decode_step"
        ),
        cache=[(length, keys.shape[-1])] * 2,
        start=START,
        end=END,
        max_length=length,
    )


def tokenizer_of(file: Path) -> Tokenizer:
    inside = read_associated_files(file)
    if "tokenizer.json" not in inside:
        raise tfbig.errors.InvalidFile(f"`{file}` carries no tokenizer.json. Give a file that translate.py has saved.")
    return Tokenizer.from_json(inside["tokenizer.json"])


def predict(text: str, file: Path) -> None:
    """Prints the translation of a text, by nothing but a LiteRT file."""
    tokenizer = tokenizer_of(file)
    (translation,) = words(writer_of(file)(tokenizer.encode([text])), tokenizer)
    print(translation.replace(" - ", "-"))


def dataset(pairs: Pairs, tokenizer: Tokenizer, shuffle: bool = False) -> tf.data.Dataset:
    """Batches of the source and the target moved one place to the right, and what is wanted at each place."""
    source, wanted = (tokenizer.encode(texts) for texts in zip(*pairs, strict=True))
    ends = np.minimum((wanted > 0).sum(1), tokenizer.length - 1)
    wanted[np.arange(len(wanted)), ends] = END
    target = np.concatenate([np.full((len(wanted), 1), START, np.int32), wanted[:, :-1]], axis=1)
    samples = tf.data.Dataset.from_tensor_slices(({"source": source, "target": target}, wanted))
    return (samples.shuffle(len(pairs), seed=0) if shuffle else samples).batch(64)


def next_token_accuracy(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Share of tokens that are right when all before them are; padding does not count."""
    return float(np.mean((outputs.argmax(-1) == labels)[labels > 0]))


def read(path: Path) -> Pairs:
    from tfbig.data.text_file import read_text

    pairs = [tuple(part.strip() for part in line.split("\t")[:2]) for line in read_text(path).splitlines() if line]
    if len(pairs) < 10 or not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise tfbig.errors.InvalidData(
            f"`{path}` must have at least 10 lines of source<TAB>target, received {len(pairs)} lines, of which "
            f"{sum(len(pair) == 2 and all(pair) for pair in pairs)} are such pairs. Separate the two by one tab."
        )
    return pairs


ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
ONES = [*ONES.split(), "eighteen", "nineteen"]
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
UNITES = "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize".split()
DIZAINES = "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt".split()


def english(n: int) -> str:
    """A number below 10,000 in English words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{ONES[n % 10]}" if n % 10 else "")
    size, word, link = (100, "hundred", " and ") if n < 1000 else (1000, "thousand", " " if n % 1000 > 99 else " and ")
    return f"{english(n // size)} {word}" + (link + english(n % size) if n % size else "")


def french(n: int) -> str:
    """A number below 10,000 in French words."""
    if n < 17:
        return UNITES[n]
    if n < 20:
        return f"dix-{UNITES[n - 10]}"
    if n < 100:
        ten, rest = DIZAINES[n // 10 - 2], n % 20 if n >= 60 else n % 10
        if rest == 0:
            return ten + "s" * (n == 80)
        return f"{ten} et {french(rest)}" if rest in (1, 11) and n < 80 else f"{ten}-{french(rest)}"
    size, word = (100, "cent") if n < 1000 else (1000, "mille")
    many, rest = n // size, n % size
    plural = "s" if size == 100 and many > 1 and not rest else ""
    return " ".join([*([french(many)] if many > 1 else []), word + plural, *([french(rest)] if rest else [])])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], epilog="or: translate.py predict TEXT [FILE]"
    )
    if sys.argv[1:2] == ["predict"]:
        parser.add_argument("predict")
        parser.add_argument("text")
        parser.add_argument("file", nargs="?", default=OUT / "int8.tflite", type=Path, help="one that this has saved")
        return parser.parse_args()
    parser.add_argument("--pairs", metavar="FILE", help="lines of source<TAB>target")
    parser.add_argument("--quick", action="store_true", help="numbers below 1000, a smaller network: under a minute")
    parser.add_argument("--epochs", type=int, help="passes over the pairs (default 15; 40 with --quick)")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    try:
        predict(given.text, given.file) if hasattr(given, "text") else main(given.pairs, given.quick, given.epochs)
    except tfbig.errors.TfbigError as error:
        sys.exit(f"translate.py: {error}")
