"""A policy that balances a pole: double DQN learns CartPole-v1, then it is pruned and becomes an 8-bit file.

    python examples/dqn.py [--quick]          needs Gymnasium: pip install gymnasium

CartPole counts as solved when the mean return over 100 episodes is 475 or more (500 is the most). Prints the mean
return of each saved file over the same 100 episodes, played with that file and NumPy alone, and the time of one
decision. The files are in saved_models/dqn.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import tfbig

try:
    import gymnasium
except ImportError:
    sys.exit("dqn.py needs Gymnasium: pip install gymnasium")

SOLVED, MOST = 475, 500  # mean return of 100 episodes; return of the best episode
DISCOUNT, BATCH, FOLLOW = 0.99, 128, 0.005  # of future rewards; transitions in a step; of the target network
RATE = 5e-4  # of learning
PLAYED, LEARNED = 16, 16  # steps that are played and then steps of training, in turns
Policy = Callable[[np.ndarray], int]  # (state) -> action


def main(quick: bool, seed: int) -> tfbig.Result:
    """Trains, compresses, saves and plays; returns the result."""
    keras.utils.set_random_seed(seed)
    model = tfbig.models.build("q_network", input_shape=(4,), actions=2, units=(64, 64))
    memory = learn(model, steps=22_000 if quick else 150_000, seed=seed)

    # What is compressed learns the decisions of the trained network in states that it has met.
    states = np.unique(memory.state[: memory.count], axis=0)
    states = np.random.default_rng(seed).permutation(states)[:30_000]
    actions = model.predict(states, batch_size=1024, verbose=0).argmax(-1)
    train, test = slice(0, len(states) * 4 // 5), slice(len(states) * 4 // 5, None)
    batched = [tf.data.Dataset.from_tensor_slices((states[part], actions[part])).batch(BATCH) for part in (train, test)]
    result = tfbig.compress(
        model,
        [tfbig.Prune(sparsity=0.5), tfbig.Quantize("int8")],
        train=batched[0],
        test=batched[1],
        epochs=3 if quick else 10,
        learning_rate=1e-3,
        verbose=2,
    )
    print(result)
    result = result.save("saved_models/dqn", overwrite=True)
    for stage in result.stages:
        policy = policy_of_file(stage.file)
        returns = play(policy, episodes=20 if quick else 100, seed=10_000)
        print(f"{stage.name}: mean return {returns.mean():.1f}  {microseconds(policy):.1f} microseconds per decision")
    return result


def learn(model: keras.Model, steps: int, seed: int) -> Memory:
    """Trains `model` in place until CartPole is solved or `steps` are over; it ends with its best weights."""
    target, memory, rng = keras.models.clone_model(model), Memory(50_000), np.random.default_rng(seed)
    target.set_weights(model.get_weights())
    improve, best, weights = double_dqn(model, target), -1.0, model.get_weights()
    environment = gymnasium.make("CartPole-v1")
    state, _ = environment.reset(seed=seed)
    for step in range(1, steps + 1):
        chance = max(0.05, 1 - step / 5000)
        action = int(rng.integers(2)) if rng.random() < chance else policy_of_weights(weights)(state)
        after, reward, ended, cut, _ = environment.step(action)
        memory.add(state, action, reward, after, ended)
        state = environment.reset()[0] if ended or cut else after
        if step % PLAYED == 0 and step > 1000:
            improve(*memory.sample(rng))
            weights = model.get_weights()
        if step % 1024 == 0:
            mean = play(policy_of_weights(weights), episodes=10, seed=20_000).mean()
            if mean >= SOLVED:
                mean = play(policy_of_weights(weights), episodes=100, seed=20_000).mean()
            print(f"step {step:6d}: mean return {mean:.1f}", flush=True)
            if mean > best:
                best, best_weights = mean, weights
            if best >= SOLVED + 15:
                break
    model.set_weights(best_weights)
    return memory


class Memory:
    """The last transitions: state, action, reward, next state, and whether the episode ended there."""

    def __init__(self, size: int):
        self.size, self.count, self.next = size, 0, 0
        self.state, self.after = np.zeros((2, size, 4), np.float32)
        self.action, self.reward, self.ended = np.zeros(size, np.int32), *np.zeros((2, size), np.float32)

    def add(self, state: np.ndarray, action: int, reward: float, after: np.ndarray, ended: bool) -> None:
        at = self.next
        self.state[at], self.action[at], self.reward[at], self.after[at] = state, action, reward, after
        self.ended[at] = ended
        self.next, self.count = (at + 1) % self.size, min(self.count + 1, self.size)

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        rows = rng.integers(0, self.count, (LEARNED, BATCH))
        return tuple(column[rows] for column in (self.state, self.action, self.reward, self.after, self.ended))


def double_dqn(model: keras.Model, target: keras.Model) -> Callable[..., None]:
    """Steps of training, one for each row: the network chooses the next action, the target network judges it.

    Reference: van Hasselt, Guez, Silver, "Deep Reinforcement Learning with Double Q-learning", AAAI 2016. The target
    network follows by a running mean, as in Lillicrap et al., 2016.
    """
    optimizer, huber = keras.optimizers.Adam(RATE, clipnorm=10.0), keras.losses.Huber()
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=False)
    def improve(*columns):
        for row in tf.range(LEARNED):
            step(*(column[row] for column in columns))

    def step(state, action, reward, after, ended):
        choice = tf.argmax(model(after), axis=1)
        future = tf.gather(target(after), choice, axis=1, batch_dims=1)
        wanted = reward + DISCOUNT * (1 - ended) * future
        with tf.GradientTape() as tape:
            loss = huber(wanted, tf.gather(model(state, training=True), action, axis=1, batch_dims=1))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        for slow, fast in zip(target.trainable_variables, model.trainable_variables, strict=True):
            slow.assign(slow + FOLLOW * (fast - slow))

    return improve


def policy_of_weights(weights: list[np.ndarray]) -> Policy:
    """The greedy policy of a network of Dense layers, in NumPy: for one state that is faster than any framework."""

    def act(state: np.ndarray) -> int:
        for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            state = np.maximum(state @ kernel + bias, 0)
        return int(np.argmax(state @ weights[-2] + weights[-1]))

    return act


def policy_of_file(file: Path) -> Policy:
    """The greedy policy of a LiteRT file, as a device would run it."""
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    state_index, value_index = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def act(state: np.ndarray) -> int:
        interpreter.set_tensor(state_index, state[None])
        interpreter.invoke()
        return int(np.argmax(interpreter.get_tensor(value_index)))

    return act


def play(policy: Policy, episodes: int, seed: int) -> np.ndarray:
    """The return of each episode, always in the same order of starts."""
    environment, returns = gymnasium.make("CartPole-v1"), []
    for episode in range(episodes):
        (state, _), total, over = environment.reset(seed=seed + episode), 0.0, False
        while not over:
            state, reward, ended, cut, _ = environment.step(policy(state))
            total, over = total + float(reward), ended or cut
        returns.append(total)
    return np.array(returns)


def microseconds(policy: Policy, decisions: int = 2000) -> float:
    """Median time of one decision, the copying of state and values included."""
    states, times = np.random.default_rng(0).normal(size=(decisions, 4)).astype(np.float32), []
    for state in states:
        start = time.perf_counter_ns()
        policy(state)
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="22,000 steps at most, and fewer episodes")
    parser.add_argument("--seed", type=int, default=0, help="of the network, the exploration and the episodes")
    given = parser.parse_args()
    main(given.quick, given.seed)
