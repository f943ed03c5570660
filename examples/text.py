"""Is it spam? A transformer reads short messages, becomes an 8-bit file, and takes its tokenizer along inside it.

    python examples/text.py FILE                          lines of label<TAB>text, in UTF-8
    python examples/text.py --quick                       messages that it makes up instead
    python examples/text.py predict "Win cash now!" [MODEL]

Prints the F1 score of each saved file, then reads a few messages with the last one, alone. The files are in
saved_models/text. LiteRT has no tables of strings, so the model takes word ids; the tokenizer that makes them is
plain Python and travels as JSON in a zip archive behind the model's bytes: `unzip -p model.tflite tokenizer.json`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfbig
from tfbig.exporters.associated_files import read_associated_files
from tfbig.measurement.litert import run_litert

OUT = Path("saved_models/text")


def main(file: str | None, quick: bool, epochs: int) -> tfbig.Result:
    """Trains, compresses and saves; returns the result."""
    data = tfbig.data.load(f"text:{file or made_up_messages(Path('saved_models/made_up_messages.tsv'))}")
    tokenizer = tfbig.data.Tokenizer.fit(data.train, size=4000, length=24 if quick else 48, fold_digits=True)
    tokens, classes = tokenizer.applied_to(data), data.spec.class_names or [str(n) for n in range(data.spec.classes)]
    print(f"{data.spec.samples['train']} messages to learn from: {', '.join(classes)}")

    keras.utils.set_random_seed(0)
    model = tfbig.models.build(
        "text_classifier",
        vocabulary=len(tokenizer.vocabulary),
        length=tokenizer.length,
        classes=len(classes),
        width=16 if quick else 32,
        depth=1,
        mlp=32 if quick else 64,
        dropout=0.3,
    )
    tfbig.training.fit(model, tokens, epochs=epochs, learning_rate=2e-3, schedule="cosine", warmup=0.1, verbose=2)
    result = tfbig.compress(
        model,
        [tfbig.Quantize("int8")],
        train=tokens.train,
        validation=tokens.validation,
        test=tokens.test,
        epochs=max(1, epochs // 2),
        learning_rate=5e-4,
        metric="f1",
        associated_files={"tokenizer.json": tokenizer.to_json(), "labels.txt": "\n".join(classes)},
        verbose=2,
    )
    print(result)
    result = result.save(OUT, overwrite=True)
    texts, labels = (column.numpy() for column in next(iter(data.test)))
    predict([text.decode() for text in texts[:8]], result.file, right=[classes[label] for label in labels[:8]])
    return result


def predict(messages: list[str], file: Path, right: list[str] | None = None) -> None:
    """Reads messages with nothing but a LiteRT file."""
    inside = read_associated_files(file)
    if not {"tokenizer.json", "labels.txt"} <= set(inside):
        raise tfbig.errors.InvalidFile(f"`{file}` carries no tokenizer.json. Give a file that text.py has saved.")
    tokenizer = tfbig.data.Tokenizer.from_json(inside["tokenizer.json"])
    classes = inside["labels.txt"].split("\n")
    (probabilities,) = run_litert(file, [tokenizer.encode(messages)])
    for number, (message, row) in enumerate(zip(messages, probabilities, strict=True)):
        known = f"  ({right[number]})" if right else ""
        print(f"{classes[row.argmax()]:5s} {row.max():4.0%}{known}  {message[:70]}")


def made_up_messages(path: Path, count: int = 1200) -> Path:
    """Writes messages of two kinds from shared words; one in 25 has the wrong label, as in life."""
    rng = np.random.default_rng(0)
    who, what = ("you", "we", "mum", "our customers", "friends"), ("prize", "cash", "ticket", "dinner", "phone", "bus")
    ham = (
        "see you at {n} with the {what}",
        "did {who} get the {what}?",
        "{who} paid {n} for a {what}",
        "call me at {n}",
    )
    spam = (
        "{who} won a {what}, call {number}",
        "claim the {what} at {number} now",
        "free {what}! text {n} to {number}",
    )
    lines = []
    for _ in range(count):
        label, patterns = ("spam", spam) if rng.random() < 0.3 else ("ham", ham)
        words = {"who": rng.choice(who), "what": rng.choice(what), "n": rng.integers(1, 99)}
        words["number"] = rng.integers(10**9, 10**10)
        label = {"ham": "spam", "spam": "ham"}[label] if rng.random() < 0.04 else label
        lines.append(f"{label}\t{rng.choice(patterns).format(**words)}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog="or: text.py predict MESSAGE")
    if sys.argv[1:2] == ["predict"]:
        parser.add_argument("predict")
        parser.add_argument("message")
        parser.add_argument("model", nargs="?", default=OUT / "model.tflite", help="a .tflite file that this wrote")
        return parser.parse_args()
    parser.add_argument("file", nargs="?", help="lines of label<TAB>text")
    parser.add_argument("--quick", action="store_true", help="a smaller network and few epochs: under a minute")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the messages (default 6)")
    given = parser.parse_args()
    if not (given.file or given.quick):
        parser.error("name a FILE with lines of label<TAB>text, or make some up with --quick")
    return given


if __name__ == "__main__":
    given = arguments()
    try:
        if hasattr(given, "message"):
            predict([given.message], given.model)
        else:
            main(given.file, given.quick, given.epochs)
    except tfbig.errors.TfbigError as error:
        sys.exit(f"text.py: {error}")
