"""From English to French: a T5-style encoder-decoder that writes word by word, from two LiteRT files with a cache.

    python examples/translate.py --pairs FILE      lines of source<TAB>target, in UTF-8
    python examples/translate.py --quick           numbers in words, which it makes itself; also the default, with more

Numbers are a small language with real irregularities ("quatre-vingt-dix-sept", "deux cents" but "deux cent un"), and
the test split holds numbers that training never saw. Prints exact match and BLEU by greedy and by beam search (BLEU
needs sacrebleu: pip install sacrebleu), first of the Keras model, then of encode.tflite and decode_step.tflite with
NumPy alone. The files are in saved_models/translate.
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
    """Trains, prunes, exports and translates; returns the share of exact translations of each."""
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
    found = {"Keras": told("Keras", test, tokenizer, result.model.parts().writer(start=START, end=END))}
    for quantize in (None, "int8"):
        name = quantize or "float"
        encode, step = export_parts(result.model, tokenizer, train[:40], quantize)
        found[name] = told(f"LiteRT, {name}", test, tokenizer, writer_of_files(encode, step))
    return found


def told(name: str, test: Pairs, tokenizer: Tokenizer, writer: Writer) -> float:
    """Prints how good the translations of a writer are, greedy and by beam search; returns the greedy exact match."""
    exact = []
    for search, beams in (("greedy", 1), ("4 beams", 4)):
        translated = translate([source for source, _ in test], tokenizer, dataclasses.replace(writer, beams=beams))
        wanted = [" ".join(tokenizer.split(target)) for _, target in test]
        bleu = sacrebleu.corpus_bleu(translated, [wanted], tokenize="none", force=True).score
        exact.append(float(np.mean([got == want for got, want in zip(translated, wanted, strict=True)])))
        print(f"{name}, {search}: exact match {exact[-1]:.3f}  BLEU {bleu:.1f}", flush=True)
    print(f"  {test[0][0]} -> {translated[0].replace(' - ', '-')}")
    return exact[0]


def translate(texts: list[str], tokenizer: Tokenizer, writer: Writer) -> list[str]:
    written = writer(tokenizer.encode(texts))
    return tokenizer.decode(np.where(written == END, 0, written))


def export_parts(model: keras.Model, tokenizer: Tokenizer, some: Pairs, quantize: str | None) -> tuple[Path, Path]:
    """Writes the encoder and the decoder's step; what they are given while they translate `some` shows the ranges."""
    parts, seen = model.parts(), []
    writer = parts.writer(start=START, end=END)

    def recorded(*inputs: np.ndarray) -> list[np.ndarray]:
        seen.append(inputs)
        return writer.decode_step(*inputs)

    sources = tokenizer.encode([source for source, _ in some])
    dataclasses.replace(writer, decode_step=recorded)(sources)
    steps = [np.concatenate(column)[:: len(seen)] for column in zip(*seen, strict=True)]
    name, inside = quantize or "float", {"tokenizer.json": tokenizer.to_json()}
    files = []
    for part, calibration in ((parts.encode, [sources]), (parts.decode_step, steps)):
        path = OUT / name / f"{part.name.removeprefix(model.name + '_')}.tflite"
        options = {"quantize": quantize, "calibration": calibration} if quantize else {}
        files.append(tfbig.export(part, path, associated_files=inside, **options))
        print(f"{path}: {path.stat().st_size:,} bytes")
    return files[0], files[1]


def writer_of_files(encode: Path, step: Path) -> Writer:
    """Writes with two LiteRT files; the shape of the cache is that of the step's last two inputs."""
    length = Tokenizer.from_json(read_associated_files(encode)["tokenizer.json"]).length
    keys, _ = run_litert(encode, [np.zeros((1, length), np.int32)])
    cache = [(length, keys.shape[-1])] * 2
    return Writer(
        encode=lambda source: run_litert(encode, [source]),
        decode_step=lambda *inputs: run_litert(step, dict(zip(STEP_INPUTS, inputs, strict=True))),
        cache=cache,
        start=START,
        end=END,
        max_length=length,
    )


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
        raise tfbig.errors.InvalidData(f"`{path}` must have lines of source<TAB>target, at least 10 of them.")
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", metavar="FILE", help="lines of source<TAB>target")
    parser.add_argument("--quick", action="store_true", help="numbers below 1000, a smaller network: under a minute")
    parser.add_argument("--epochs", type=int, help="passes over the pairs (default 15; 40 with --quick)")
    given = parser.parse_args()
    try:
        main(given.pairs, given.quick, given.epochs)
    except tfbig.errors.TfbigError as error:
        sys.exit(f"translate.py: {error}")
