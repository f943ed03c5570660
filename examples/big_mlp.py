"""A big perceptron, 1000 - 2000 - 1000: trained, pruned by half, and distilled into one of 32 units.

    python examples/big_mlp.py [--quick] [--data SPEC]

Prints the table of the pruned network and that of the small one. The files are in saved_models/big_perceptron.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import tfbig


def main(spec: str, epochs: int) -> tuple[tfbig.Result, tfbig.Result]:
    data = tfbig.data.load(spec)
    shape, splits = data.spec.input_shape, {"train": data.train, "validation": data.validation, "test": data.test}
    keras.utils.set_random_seed(0)

    big = tfbig.models.build("mlp", input_shape=shape, units=(1000, 2000, 1000), dropout=0.2)
    tfbig.training.fit(big, data, epochs=epochs, schedule="cosine", verbose=2)

    pruned = tfbig.compress(big, [tfbig.Prune(sparsity=0.5)], **splits, epochs=max(2, epochs // 2), verbose=2)
    print(pruned)
    pruned = pruned.save("saved_models/big_perceptron/pruned", overwrite=True)

    small = tfbig.models.build("mlp", input_shape=shape, units=(32,))
    taught = [tfbig.Distill(teacher=big, alpha=0.9), tfbig.Quantize("int8")]
    distilled = tfbig.compress(small, taught, **splits, epochs=3 * epochs, learning_rate=0.01, verbose=2)
    print(distilled)
    return pruned, distilled.save("saved_models/big_perceptron/distilled", overwrite=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 epochs instead of 15")
    parser.add_argument("--data", default="digits", help="as of tfbig.data.load (default digits)")
    given = parser.parse_args()
    try:
        main(given.data, 2 if given.quick else 15)
    except tfbig.errors.TfbigError as error:
        sys.exit(f"big_mlp.py: {error}")
