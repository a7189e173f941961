"""Tunes all-MiniLM-L6-v2 so that questions that want the same answer lie near each other and
questions that merely look alike do not; writes the low-rank delta that tools/fetch_model adds.

  train.py OUT.safetensors [--leave 0/2] [--start FILE] [--epochs 3] --intents FILE... --pairs FILE...
           [--also-intents FILE...] [--also-pairs FILE...]

Two losses over a batch of whole topics. Contrastive: each question picks one of its own intent among
all of the batch. Ranking: every right pair of the batch before every wrong one, whichever question
it belongs to; a threshold is one for all questions, so this is the one that the cache lives by.
--leave K/N keeps every Nth topic and group of pairs, from the Kth on, for an honest measure; of the
--also files nothing is kept.
"""
import argparse
import collections
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

import encoder

# A batch is a few blocks of (rows, tokens), so that short questions are not padded to the longest.
BLOCKS = [(28, 11), (36, 15), (32, 21), (24, 30), (12, 44)]
AHEAD = 40  # topics that are tried for a batch's last rows
LONGEST = BLOCKS[-1][1]  # tokens; more would only slow it down


def topics_of(intent_files, pair_files, leave):
    """[[(intent, question), ...], ...]: one list a topic. Pairs that share questions are a topic,
    and what right pairs join is an intent."""
    topics = collections.OrderedDict()
    for row in [r for f in intent_files for r in encoder.read_lines(f)]:
        topics.setdefault(row['topic'], []).append((row['intent'], row['q']))
    pairs = [r for f in pair_files for r in encoder.read_lines(f)]
    group = components([(p['a'], p['b']) for p in pairs])
    intent = components([(p['a'], p['b']) for p in pairs if p['label']])
    groups = collections.OrderedDict()
    for text in dict.fromkeys(t for p in pairs for t in (p['a'], p['b'])):
        groups.setdefault(group[text], []).append((intent.get(text, text), text))
    pick = lambda lists: [t for i, t in enumerate(lists) if not leave or i % leave[1] != leave[0]]
    return pick(list(topics.values())) + pick(list(groups.values()))


def components(edges):
    """Each node's representative."""
    parent = {}

    def root(node):
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for a, b in edges:
        parent[root(b)] = root(a)
    return {node: root(node) for node in list(parent)}


def batches(topics, rng):
    """Whole topics in random order, as many as fit into the blocks: each a list of row lists."""
    waiting = rng.sample(topics, len(topics))
    while waiting:
        blocks = [[] for _ in BLOCKS]
        for topic in waiting[:AHEAD]:
            fuller = with_topic(blocks, topic)
            if fuller:
                blocks = fuller
                waiting.remove(topic)
        if not any(blocks):
            waiting.pop(0)  # larger than a batch
            continue
        yield blocks


def with_topic(blocks, topic):
    """The blocks with the topic's rows in them, or None if they do not fit."""
    fuller = [list(b) for b in blocks]
    for row in topic:
        fits = [i for i, (rows, tokens) in enumerate(BLOCKS)
                if len(row[1]) <= tokens and len(fuller[i]) < rows]
        if not fits:
            return None
        fuller[fits[0]].append(row)
    return fuller


def arrays(blocks):
    """[(ids, mask), ...] and the intents' numbers, -1 where a block has no row."""
    number, intents, inputs = {}, [], []
    for part, (rows, tokens) in zip(blocks, BLOCKS):
        ids, mask = np.zeros((rows, tokens), np.int32), np.zeros((rows, tokens), np.float32)
        mask[:, 0] = 1
        for i, (intent, row) in enumerate(part):
            ids[i, :len(row)] = row
            mask[i, :len(row)] = 1
            intents.append(number.setdefault(intent, len(number)))
        intents += [-1] * (rows - len(part))
        inputs.append((ids, mask))
    return inputs, np.array(intents, np.int32)


def loss_of(trainable, weights, inputs, intents, key, options):
    weights = weights | trainable
    vectors = jnp.concatenate([encoder.forward(weights, ids, mask, jax.random.fold_in(key, i))
                               for i, (ids, mask) in enumerate(inputs)])
    real = intents >= 0
    cosines = vectors @ vectors.T
    pair = real[:, None] & real[None, :] & ~jnp.eye(len(intents), dtype=bool)
    same = pair & (intents[:, None] == intents[None, :])
    other = pair & ~same
    # Contrastive: for each right pair, itself against all wrong ones of its first question.
    scaled = cosines / options['temperature']
    wrong = jax.nn.logsumexp(jnp.where(other, scaled, -1e9), axis=1, keepdims=True)
    contrastive = jnp.where(same, jax.nn.softplus(wrong - scaled), 0).sum() / same.sum()
    # Ranking: all wrong pairs against all right ones.
    scaled = cosines / options['ranking_temperature']
    ranking = jax.nn.softplus(
        jax.nn.logsumexp(jnp.where(other, scaled, -1e9)) - jnp.log(other.sum())
        + jax.nn.logsumexp(jnp.where(same, -scaled, -1e9)) - jnp.log(same.sum())
        + options['ranking_margin'])
    return contrastive + options['ranking'] * ranking


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--intents', nargs='+', required=True)
    parser.add_argument('--pairs', nargs='+', default=[])
    parser.add_argument('--also-intents', nargs='+', default=[])
    parser.add_argument('--also-pairs', nargs='+', default=[])
    parser.add_argument('--leave', type=lambda text: tuple(map(int, text.split('/'))))
    parser.add_argument('--start', help='a delta to go on from')
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--rank', type=int, default=32)
    parser.add_argument('--rate', type=float, default=5e-4)
    parser.add_argument('--temperature', type=float, default=.05)
    parser.add_argument('--ranking', type=float, default=.5)
    parser.add_argument('--ranking-temperature', type=float, default=.05)
    parser.add_argument('--ranking-margin', type=float, default=5.)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('out')
    args = parser.parse_args()

    rng, np_rng = random.Random(args.seed), np.random.default_rng(args.seed)
    weights, tokenizer = encoder.load_weights(), encoder.load_tokenizer()
    tokenizer.enable_truncation(LONGEST)
    topics = [[(intent, ids) for (intent, _), ids in
               zip(topic, [e.ids for e in tokenizer.encode_batch([q for _, q in topic])])]
              for topic in topics_of(args.intents, args.pairs, args.leave) +
              topics_of(args.also_intents, args.also_pairs, None)]
    delta = {}
    for name in encoder.names()[0]:
        rows, columns = weights[name].shape
        delta[name + '.lora_a'] = np_rng.normal(0, columns ** -.5, (args.rank, columns)).astype('f4')
        delta[name + '.lora_b'] = np.zeros((rows, args.rank), 'f4')
    for name in encoder.names()[1]:
        delta[name + '.add'] = np.zeros_like(weights[name])
    if args.start:
        delta = {k: v.astype('f4') for k, v in load_file(args.start).items()}
    options = dict(temperature=args.temperature, ranking=args.ranking,
                   ranking_temperature=args.ranking_temperature,
                   ranking_margin=args.ranking_margin)
    steps = args.epochs * sum(1 for _ in batches(topics, random.Random(0)))

    @jax.jit
    def step(delta, first, second, weights, inputs, intents, key, t):
        loss, grads = jax.value_and_grad(loss_of)(delta, weights, inputs, intents, key, options)
        size = jnp.sqrt(sum((g ** 2).sum() for g in grads.values()))
        grads = {k: g * jnp.minimum(1, 1 / (size + 1e-9)) for k, g in grads.items()}
        rate = args.rate * jnp.minimum(1, (t + 1) / (.06 * steps)) * jnp.maximum(.02, 1 - t / steps)
        first = {k: .9 * first[k] + .1 * g for k, g in grads.items()}
        second = {k: .999 * second[k] + .001 * g ** 2 for k, g in grads.items()}
        update = lambda k: (first[k] / (1 - .9 ** (t + 1))
                            / (jnp.sqrt(second[k] / (1 - .999 ** (t + 1))) + 1e-8))
        return {k: d - rate * update(k) for k, d in delta.items()}, first, second, loss

    first = {k: np.zeros_like(v) for k, v in delta.items()}
    second = {k: np.zeros_like(v) for k, v in delta.items()}
    device_weights = {k: jnp.asarray(v) for k, v in weights.items()}
    key, t, began, losses = jax.random.PRNGKey(args.seed), 0, time.time(), []
    for epoch in range(args.epochs):
        for blocks in batches(topics, rng):
            inputs, intents = arrays(blocks)
            key, sub = jax.random.split(key)
            delta, first, second, loss = step(
                delta, first, second, device_weights, inputs, intents, sub, t)
            losses.append(float(loss))
            t += 1
            if t % 10 == 0:
                print(f'epoch {epoch} step {t}/{steps} loss {np.mean(losses[-10:]):.3f} '
                      f'{time.time() - began:.0f} s', flush=True)
        save_file({k: np.asarray(v).astype(np.float16) for k, v in delta.items()}, args.out)


if __name__ == '__main__':
    main()
