"""Which film next, and how many stars? Two towers and NCF against popularity and matrix factorisation.

    python examples/recommend.py FOLDER     MovieLens: ratings.csv of user, film, stars, time (ml-latest-small and kin)
    python examples/recommend.py --quick    ratings that it makes up instead

Each person's ratings are split by time: the first 80 % to learn from, then 10 % to choose settings on, then 10 % to
test. The last film of each person is ranked among 99 that the person never rated: HitRate@10 is the share of people for
whom it comes among the first ten, NDCG@10 also asks how high. Stars are judged by RMSE. Nearly all bytes of such a
model are its tables of people and films: their rank is halved, half of what is left becomes zero, then all of it is
trained for 8-bit integers, or the tables become 4-bit integers with a scale for each row. The figures are those of the
files in saved_models/recommend.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

import tfbig

OUT = Path("saved_models/recommend")
CANDIDATES, NEGATIVES = 100, 31  # films that one is ranked among: in the test, and beside each in training
SETTINGS = {  # epochs, learning rate, that of each stage of compression, weight decay
    "two_tower": (2, 2e-3, 1e-3, 1e-3),
    "ncf": (2, 2e-3, 1e-3, 1e-2),
    "stars": (4, 2e-3, 3e-4, 0.3),
}
QUICK = {**SETTINGS, "stars": (6, 1e-2, 1e-3, 0.3)}
FACTORS = {"two_tower": "embedding", "ncf": "factors"}  # the tables whose products are scores
SHARPNESS = 6.0  # what the products of factors, which are near 0 or 1, are multiplied by to be logits
Split = np.ndarray  # numbers of the ratings that belong to it


@dataclasses.dataclass(frozen=True)
class Ratings:
    """Who gave which film how many stars, in order of person and time; ids count from 0."""

    user: np.ndarray
    item: np.ndarray
    stars: np.ndarray
    users: int
    items: int

    def splits(self) -> tuple[Split, Split, Split]:
        """Numbers of the ratings to learn from, to validate and to test on."""
        first = np.searchsorted(self.user, self.user)
        place = (np.arange(len(self.user)) - first) / np.bincount(self.user)[self.user]
        return tuple(np.flatnonzero(part) for part in (place < 0.8, (place >= 0.8) & (place < 0.9), place >= 0.9))

    def pairs(self, which: Split) -> dict[str, np.ndarray]:
        return {"user": self.user[which], "item": self.item[which]}

    def matrix(self, which: Split, values: np.ndarray) -> csr_matrix:
        return csr_matrix((values, (self.user[which], self.item[which])), (self.users, self.items))

    def last_among_others(self, which: Split) -> dict[str, np.ndarray]:
        """The pairs of each person with the last film in `which`, and then with 99 that the person never rated."""
        rng, seen = np.random.default_rng(0), self.matrix(np.arange(len(self.user)), self.stars).toarray() > 0
        last = which[np.append(np.diff(self.user[which]) > 0, True)]
        others = [rng.choice(np.flatnonzero(~seen[u]), CANDIDATES - 1, replace=False) for u in self.user[last]]
        films = np.column_stack([self.item[last], others]).astype("int32")
        return {"user": np.repeat(self.user[last], CANDIDATES), "item": films.ravel()}


def main(folder: str | None, quick: bool) -> None:
    """Trains, compresses, saves, and prints what was measured."""
    ratings = read(Path(folder)) if folder else made_up_ratings()
    train, validation, test = ratings.splits()
    print(f"{len(train):,} ratings of {ratings.items:,} films by {ratings.users:,} people to learn from", flush=True)
    baselines(ratings, train, validation, test)
    sizes = {"users": ratings.users, "items": ratings.items, "output_activation": None}
    sizes |= {"dimensions": 16 if quick else 32}
    for kind in ("two_tower",) if quick else ("two_tower", "ncf"):
        keras.utils.set_random_seed(0)
        units = {"two_tower": (sizes["dimensions"],), "ncf": ()}[kind]  # A deep part learns so little data by heart.
        model = tfbig.models.build("recommender", kind=kind, units=units, dropout=0.2, **sizes)
        model.name = kind
        start_from_factors(model, ratings, train)
        next_film(model, ratings, train, test, quick)
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("recommender", kind="ncf", units=(32, 16), dropout=0.3, **sizes)
    model.name = "stars"
    how_many_stars(model, ratings, train, test, quick)


def start_from_factors(model: keras.Model, ratings: Ratings, train: Split) -> None:
    """Gives the tables the factors of who rated what, so that learning goes on from matrix factorisation.

    He et al., "Neural Collaborative Filtering", WWW 2017, section 3.4.1, on starting from what was trained before.
    """
    tables = [model.get_layer(f"{side}_{FACTORS[model.name]}").embeddings for side in ("user", "item")]
    factors = factors_of(ratings.matrix(train, np.ones(len(train))), tables[0].shape[1])
    for table, values in zip(tables, factors, strict=True):
        table.assign(values * np.sqrt(SHARPNESS))
    if model.name == "two_tower":
        for side in ("user", "item"):
            kernel = model.get_layer(f"{side}_hidden1").kernel
            kernel.assign(np.eye(*kernel.shape))
    else:
        model.get_layer("score").kernel.assign(np.ones((tables[0].shape[1], 1)))


def factors_of(matrix: csr_matrix, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors of rows and columns whose products come nearest to the matrix."""
    rows, strengths, columns = svds(matrix, rank, random_state=0)
    return rows * np.sqrt(strengths), columns.T * np.sqrt(strengths)


def next_film(model: keras.Model, ratings: Ratings, train: Split, test: Split, quick: bool) -> None:
    """Learns to tell the film that a person rated from others drawn at random: a softmax over 32 of them."""

    def beside_others(pair: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        count = tf.shape(pair["user"])[0]
        others = tf.random.uniform((count, NEGATIVES), 0, ratings.items, tf.int32)
        films = tf.reshape(tf.concat([pair["item"][:, None], others], axis=1), (-1,))
        wanted = tf.reshape(tf.one_hot(tf.zeros(count, tf.int32), NEGATIVES + 1), (-1, 1))
        return {"user": tf.repeat(pair["user"], NEGATIVES + 1), "item": films}, wanted

    pairs = tf.data.Dataset.from_tensor_slices(ratings.pairs(train)).shuffle(len(train), seed=0).batch(256)
    ranked = ratings.last_among_others(test)
    labels = (np.arange(len(ranked["user"])) % CANDIDATES == 0).astype("float32")[:, None]
    judged = tf.data.Dataset.from_tensor_slices((ranked, labels)).batch(50 * CANDIDATES)
    files = trained_and_compressed(
        model, pairs.map(beside_others).prefetch(2), judged, AmongOthers(), hit_rate_at_10, quick
    )
    for name, file in files.items():
        hit, ndcg = (tfbig.measure(file, judged, metric=m, latency=False) for m in (hit_rate_at_10, ndcg_at_10))
        print(f"{model.name}, {name}: HitRate@10 {hit.quality:.3f}  NDCG@10 {ndcg.quality:.3f}  {sizes_of(file)}")


def how_many_stars(model: keras.Model, ratings: Ratings, train: Split, test: Split, quick: bool) -> None:
    """Learns the stars themselves, from their mean on."""
    model.get_layer("score").bias.assign([ratings.stars[train].mean()])
    datasets = [
        tf.data.Dataset.from_tensor_slices((ratings.pairs(which), ratings.stars[which][:, None]))
        for which in (train, test)
    ]
    learned, judged = datasets[0].shuffle(len(train), seed=0).batch(256).prefetch(2), datasets[1].batch(4096)
    for name, file in trained_and_compressed(model, learned, judged, "mse", "rmse", quick).items():
        rmse = tfbig.measure(file, judged, metric="rmse", latency=False).quality
        print(f"{model.name}, {name}: RMSE {rmse:.3f}  {sizes_of(file)}")


def sizes_of(file: Path) -> str:
    return f"{file.stat().st_size:,} bytes, {len(gzip.compress(file.read_bytes())):,} after gzip"


def trained_and_compressed(
    model: keras.Model, train: tf.data.Dataset, test: tf.data.Dataset, loss: Any, metric: Any, quick: bool
) -> dict[str, Path]:
    """Trains the model; returns its file after each stage of compression."""
    epochs, learning_rate, later_rate, weight_decay = (QUICK if quick else SETTINGS)[model.name]
    tfbig.training.fit(
        model,
        train,
        epochs=epochs,
        loss=loss,
        optimizer="adamw",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        schedule="cosine",
        verbose=2,
    )
    options = {"train": train, "test": test, "epochs": 1, "learning_rate": later_rate, "loss": loss, "metric": metric}
    options["optimizer"] = keras.optimizers.AdamW(weight_decay=weight_decay)  # Tables learn by heart without it.
    prune_tables = tfbig.Prune(sparsity=0.5, layers={"Dense": None})
    recipe = [tfbig.LowRank(rank=0.5)] if quick else [tfbig.LowRank(rank=0.5), prune_tables]
    small = tfbig.compress(model, recipe, **options, verbose=2).save(OUT / model.name, overwrite=True)
    print(small)
    whole = tfbig.compress(small.model, [tfbig.Quantize("int8")], **options, verbose=2)
    whole = whole.save(OUT / f"{model.name}_int8", overwrite=True)
    print(whole)
    tables = tfbig.export(small.model, OUT / model.name / "int4_tables.tflite", quantize="weight_only_int4")
    return {
        **{row.name: row.file for row in small.stages},
        "quantize int8": whole.file,
        "int4 tables": tables,
    }


@keras.saving.register_keras_serializable(package="recommend")
class AmongOthers(keras.losses.Loss):
    """Cross-entropy of the wanted film among those beside it."""

    def call(self, wanted: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        wanted, scores = (tf.reshape(tensor, (-1, NEGATIVES + 1)) for tensor in (wanted, scores))
        return tf.nn.softmax_cross_entropy_with_logits(wanted, scores)


def hit_rate_at_10(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean(_ranks(scores) < 10))


def ndcg_at_10(labels: np.ndarray, scores: np.ndarray) -> float:
    ranks = _ranks(scores)
    return float(np.mean(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """How many of the others come before the wanted film, which is the first of each hundred; a tie is no success."""
    rows = scores.reshape(-1, CANDIDATES)
    return (rows[:, 1:] >= rows[:, :1]).sum(1)


def baselines(ratings: Ratings, train: Split, validation: Split, test: Split) -> None:
    """Prints what popularity and matrix factorisation reach; their settings are chosen on the validation split."""
    ones = ratings.matrix(train, np.ones(len(train)))
    films, judged = (ratings.last_among_others(which) for which in (validation, test))
    popularity = np.broadcast_to(np.bincount(ratings.item[train], minlength=ratings.items), ones.shape)
    factored = [rows @ columns.T for rows, columns in (factors_of(ones, rank) for rank in (4, 8, 16, 32))]
    best = max(factored, key=lambda table: ndcg_at_10(films["user"], table[films["user"], films["item"]]))
    for name, table in {"popularity": popularity, "matrix factorisation": best}.items():
        scores = table[judged["user"], judged["item"]]
        print(f"{name}: HitRate@10 {hit_rate_at_10(scores, scores):.3f}  NDCG@10 {ndcg_at_10(scores, scores):.3f}")

    def rmse(table: np.ndarray, which: Split) -> float:
        return float(np.sqrt(np.mean((table[ratings.user[which], ratings.item[which]] - ratings.stars[which]) ** 2)))

    tables = [alternating_least_squares(ratings, train, strength) for strength in (5.0, 10.0, 20.0, 40.0)]
    chosen = min(tables, key=lambda table: rmse(table, validation))
    mean = film_means(ratings, train)
    print(f"mean of the film: RMSE {rmse(np.broadcast_to(mean, ones.shape), test):.3f}")
    print(f"matrix factorisation: RMSE {rmse(chosen, test):.3f}", flush=True)


def film_means(ratings: Ratings, train: Split) -> np.ndarray:
    mean = ratings.stars[train].mean()
    totals = np.bincount(ratings.item[train], ratings.stars[train] - mean, ratings.items)
    return mean + totals / (np.bincount(ratings.item[train], minlength=ratings.items) + 5)


def alternating_least_squares(ratings: Ratings, train: Split, strength: float, rank: int = 8) -> np.ndarray:
    """Stars as the film's mean, the person's leaning, and a product of factors (Koren, Bell, Volinsky, 2009)."""
    base = film_means(ratings, train)
    rest = ratings.stars[train] - base[ratings.item[train]]
    leaning = np.bincount(ratings.user[train], rest, ratings.users) / (np.bincount(ratings.user[train]) + 5)
    table = ratings.matrix(train, rest - leaning[ratings.user[train]])
    items = np.random.default_rng(0).normal(0, 0.1, (ratings.items, rank))
    for _ in range(8):
        users = _solved(table, items, strength)
        items = _solved(table.T.tocsr(), users, strength)
    return base + leaning[:, None] + users @ items.T


def _solved(table: csr_matrix, factors: np.ndarray, strength: float) -> np.ndarray:
    solved = np.zeros((table.shape[0], factors.shape[1]))
    for row, (start, stop) in enumerate(zip(table.indptr[:-1], table.indptr[1:], strict=True)):
        own = factors[table.indices[start:stop]]
        solved[row] = np.linalg.solve(own.T @ own + strength * np.eye(len(own.T)), own.T @ table.data[start:stop])
    return solved


def read(folder: Path) -> Ratings:
    """Reads ratings.csv, with or without a line of headings."""
    path = folder / "ratings.csv"
    if not path.is_file():
        raise tfbig.errors.InvalidFile(f"There is no file `{path}`. Expected ratings.csv of MovieLens in the folder.")
    with path.open(encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if row and row[0].isdigit()]
    if not rows or len(rows[0]) != 4:
        raise tfbig.errors.InvalidData(f"`{path}` has no lines of user,film,stars,time. Is it another ratings.csv?")
    return in_order(*np.array(rows, dtype=np.float64).T)


def in_order(people: np.ndarray, films: np.ndarray, stars: np.ndarray, time: np.ndarray) -> Ratings:
    order = np.lexsort((films, time, people))
    (users, user), (items, item) = (np.unique(ids, return_inverse=True) for ids in (people, films))
    user, item = user[order].astype("int32"), item[order].astype("int32")
    return Ratings(user, item, stars[order].astype("float32"), len(users), len(items))


def made_up_ratings(people: int = 300, films: int = 600, each: int = 50) -> Ratings:
    """People with tastes and films with flavours, of four kinds; people watch more of what they will like."""
    rng = np.random.default_rng(0)
    match = rng.normal(size=(people, 4)) @ rng.normal(size=(4, films)) / 2
    wish = match + rng.normal(0, 1, films) + rng.gumbel(size=(people, films))
    item = np.argsort(-wish, axis=1)[:, :each]
    user = np.repeat(np.arange(people), each)
    stars = np.clip(np.round(3 + match[user, item.ravel()] + rng.normal(0, 0.5, user.size)), 1, 5)
    return in_order(user, item.ravel(), stars, rng.random(user.size))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", help="folder with MovieLens's ratings.csv")
    parser.add_argument("--quick", action="store_true", help="made-up ratings, smaller tables: under a minute")
    given = parser.parse_args()
    if not (given.folder or given.quick):
        parser.error("name a FOLDER with MovieLens's ratings.csv, or make ratings up with --quick")
    try:
        main(None if given.quick else given.folder, given.quick)
    except tfbig.errors.TfbigError as error:
        sys.exit(f"recommend.py: {error}")
