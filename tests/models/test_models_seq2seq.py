"""The encoder-decoder: relative positions as the paper has them, and writing step by step as one whole call does."""

import itertools

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidArgument, InvalidModel
from tfbig.models.decoding import Writer
from tfbig.models.relative_attention import bucket_numbers
from tfbig.models.seq2seq import parts

START, END = 1, 2
SIZES = {"vocabulary": 12, "source_length": 5, "target_length": 6, "width": 16, "depth": 2, "heads": 2, "mlp": 32}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Random weights, those of the scores large enough that attention is not the same for all places."""
    keras.utils.set_random_seed(3)
    made = tfbig.models.build("seq2seq", **SIZES)
    for weight in made.weights:
        if "distances" in weight.path or "query" in weight.path:
            weight.assign(keras.random.normal(weight.shape, seed=5))
    return made


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    ids = np.random.default_rng(0).integers(3, 12, (6, 5))
    ids[2:, 3:] = 0
    return ids.astype("int32")


def scores_of(model: keras.Model, source: np.ndarray, written: np.ndarray) -> np.ndarray:
    """Log-probabilities of each next token, by one call of the whole model."""
    target = np.concatenate([np.full((len(written), 1), START), written[:, :-1]], axis=1)
    logits = np.array(model([source, target], training=False))
    logits[..., 0] = -np.inf
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_buckets_are_those_of_the_paper():
    causal = bucket_numbers(200, 200, causal=True, buckets=32, max_distance=128)[-1][::-1]
    np.testing.assert_array_equal(causal[:16], np.arange(16))
    assert causal[128] == causal[199] == 31 and (np.diff(causal) >= 0).all() and set(causal) == set(range(32))
    both = bucket_numbers(9, 9, causal=False, buckets=32, max_distance=128)
    np.testing.assert_array_equal(both[4], [4, 3, 2, 1, 0, 17, 18, 19, 20])


def test_later_tokens_and_padding_change_nothing(model, source):
    target = np.random.default_rng(1).integers(1, 12, (6, 6))
    other = target.copy()
    other[:, 4:] = 3
    before, after = np.array(model([source, target])), np.array(model([source, other]))
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3
    shorter = tfbig.models.build("seq2seq", **{**SIZES, "source_length": 3})
    shorter.set_weights(model.get_weights())
    np.testing.assert_allclose(shorter([source[2:, :3], target[2:]]), before[2:], atol=1e-5)


def test_order_of_the_source_matters(model, source):
    target = np.full((6, 6), 4)
    assert np.abs(model([source[:2], target[:2]]) - model([source[:2, ::-1], target[:2]])).max() > 1e-3


def test_steps_with_the_cache_give_the_logits_of_one_call(model, source):
    target = np.random.default_rng(1).integers(1, 12, (6, 6)).astype("int32")
    whole = np.array(model([source, target], training=False))
    encode, step = model.parts().encode, model.parts().decode_step
    crossed = encode(source)
    cache = [np.zeros((6, *tensor.shape[1:]), "float32") for tensor in step.inputs[-2:]]
    for place in range(6):
        now = (source, *crossed, target[:, place : place + 1], np.full(6, place), *cache)
        logits, *cache = step([keras.ops.convert_to_tensor(value) for value in now])
        np.testing.assert_allclose(logits, whole[:, place], atol=1e-4)


def test_greedy_takes_the_likeliest_token_each_time(model, source):
    written = model.generate(source, start=START, end=END)
    scores = scores_of(model, source, written)
    for row, best in zip(written, scores.argmax(-1), strict=True):
        length = list(row).index(END) + 1 if END in row else 6
        np.testing.assert_array_equal(row[:length], best[:length])
        assert not row[length:].any()


def test_enough_beams_find_the_best_sequence_there_is():
    """With three words and three places, 27 beams are all sequences."""
    keras.utils.set_random_seed(1)
    model = tfbig.models.build("seq2seq", **{**SIZES, "vocabulary": 4, "target_length": 3})
    model.get_layer("next_token").kernel.assign(keras.random.normal((16, 4), seed=2) * 2)
    source = np.array([[1, 3, 3, 0, 0]])

    def score(sequence: tuple[int, ...]) -> float:
        length = sequence.index(END) + 1 if END in sequence else 3
        scores = scores_of(model, source, np.array([sequence]))[0]
        return sum(scores[i, sequence[i]] for i in range(length)) / length

    ended = [s[: s.index(END) + 1] + (0,) * 3 if END in s else s for s in itertools.product((1, 2, 3), repeat=3)]
    best = max({s[:3] for s in ended}, key=score)
    np.testing.assert_array_equal(model.generate(source, start=START, end=END, beams=27)[0], best)


def test_beam_search_is_greedy_search_with_one_beam_and_never_worse(model, source):
    greedy = model.generate(source, start=START, end=END)
    beam = model.generate(source, start=START, end=END, beams=4, length_penalty=0.0)

    def total(written: np.ndarray) -> np.ndarray:
        scores = np.take_along_axis(scores_of(model, source, written), written[..., None], -1)[..., 0]
        return np.where(written > 0, scores, 0.0).sum(-1)

    assert (total(beam) >= total(greedy) - 1e-4).all()
    shorter = model.generate(source, start=START, end=END, max_length=2)
    np.testing.assert_array_equal(shorter, greedy[:, :2])


def test_it_learns_to_copy_and_writes_the_same_from_litert(tmp_path):
    """A shift by one place: learned with teacher forcing, written step by step, also by the exported file."""
    from ai_edge_litert.interpreter import Interpreter

    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    source = random.integers(3, 8, (512, 4))
    wanted = np.concatenate([source[:, :3], np.full((512, 1), END)], axis=1)
    target = np.concatenate([np.full((512, 1), START), wanted[:, :-1]], axis=1)
    sizes = {**SIZES, "vocabulary": 8, "source_length": 4, "target_length": 4, "depth": 1, "dropout": 0.0}
    model = tfbig.models.build("seq2seq", **sizes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    tfbig.training.fit(
        model, ((source, target), wanted), loss=loss, epochs=30, learning_rate=0.01, schedule="cosine", verbose=0
    )
    found = model.generate(source[:100], start=START, end=END)
    assert (found == wanted[:100]).all(axis=1).mean() > 0.9

    halves = model.parts()
    files = [tfbig.export(half, tmp_path / f"{half.name}.tflite") for half in (halves.encode, halves.decode_step)]
    runners = [Interpreter(model_path=str(file)).get_signature_runner() for file in files]

    def run(runner, half: keras.Model):
        def call(*values: np.ndarray) -> list[np.ndarray]:
            found = runner(**dict(zip([tensor.name for tensor in half.inputs], values, strict=True)))
            return [found[name] for name in sorted(found)]

        return call

    cache = [tuple(tensor.shape[1:]) for tensor in halves.decode_step.inputs[-2:]]
    calls = [run(runner, half) for runner, half in zip(runners, (halves.encode, halves.decode_step), strict=True)]
    writer = Writer(*calls, cache=cache, start=START, end=END, max_length=4)
    for row in range(5):
        np.testing.assert_array_equal(writer(source[row : row + 1])[0], found[row])


@pytest.mark.parametrize("technique", [tfbig.Prune(sparsity=0.5), tfbig.LowRank(rank=0.5)])
def test_a_compressed_model_has_its_parts(source, technique):
    model = tfbig.models.build("seq2seq", **{**SIZES, "depth": 1})
    prepared = technique.prepare(model)
    prepared.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    target = np.full((6, 6), 4)
    prepared.fit([source, target], target, verbose=0)
    finished = technique.finish(prepared)
    written = parts(finished).writer(start=START, end=99)(source)  # 99 is no token, so that no row ends.
    scores = scores_of(finished, source, written)
    np.testing.assert_array_equal(written[:, :2], scores[:, :2].argmax(-1))


@pytest.mark.parametrize(
    "options, text",
    [
        ({"beams": 0}, "`beams` must be a whole number of at least 1, received 0"),
        ({"max_length": 7}, "`max_length` must be at most the target length, 6, received 7"),
        ({"length_penalty": -1}, "`length_penalty` must be in"),
    ],
)
def test_errors_name_the_argument(model, source, options, text):
    with pytest.raises(InvalidArgument, match=text):
        model.generate(source, start=START, end=END, **options)


def test_errors_for_other_sources_and_models(model, source):
    with pytest.raises(InvalidArgument, match=r"`source` must be token ids \(batch, 5\), received the shape \(6, 3\)"):
        model.generate(source[:, :3], start=START, end=END)
    with pytest.raises(InvalidModel, match="has no layer 'encoder_distances'.*Give a model from there"):
        parts(tfbig.models.build("mlp"))
    with pytest.raises(InvalidModel, match="is in training under a technique.*quantize='int8'"):
        parts(tfbig.Quantize("int8").prepare(tfbig.models.build("seq2seq", **{**SIZES, "depth": 1})))
