"""Pairs to fit and to measure with, from questions grouped by intent and from labelled pairs, and
what the similarity_features tool measures of them. Vectors come from an .npz of train_encoder/embed.py."""
import collections
import json
import subprocess

import numpy as np


def read_lines(path):
    with open(path, encoding='utf-8') as lines:
        return [json.loads(line) for line in lines]


class Vectors:
    def __init__(self, *paths):
        self.rows = {}
        for path in paths:
            stored = np.load(path, allow_pickle=True)
            self.rows.update(zip(stored['texts'], stored['vectors']))

    def has(self, pairs):
        return all(p[k] in self.rows for p in pairs for k in 'ab')

    def matrix(self, texts):
        return np.stack([self.rows[t] for t in texts]).astype(np.float32)

    def cosines(self, pairs):
        a, b = self.matrix([p[0] for p in pairs]), self.matrix([p[1] for p in pairs])
        return (a * b).sum(1)


class Tool:
    """similarity_features, with what it has measured kept."""

    def __init__(self, path):
        self.path, self.kept = path, {}
        names = json.loads(subprocess.run([path, '--names'], capture_output=True, text=True).stdout)
        self.names = [n['name'] for n in names]
        self.signs = np.array([n['sign'] for n in names])

    def features(self, pairs, cosines):
        """[pairs, features]: everything but the cosines is measured once for each pair of texts."""
        missing = [p for p in dict.fromkeys(pairs) if p not in self.kept]
        text = '\n'.join(json.dumps({'a': a, 'b': b, 'cosine': 0}) for a, b in missing)
        if missing:
            out = subprocess.run([self.path], input=text, capture_output=True, text=True, check=True)
            for pair, line in zip(missing, out.stdout.splitlines(), strict=True):
                self.kept[pair] = json.loads(line)
        x = np.array([self.kept[p] for p in pairs], np.float64)
        x[:, 0] = cosines
        x[:, 1] = -np.log(1.03 - cosines)
        return x


Part = collections.namedtuple('Part', 'intents pairs vectors')


def part(intents, pairs, vectors):
    """The intents and pairs that `vectors` covers."""
    wanting = {row['intent'] for row in intents if row['q'] not in vectors.rows}
    return Part([row for row in intents if row['intent'] not in wanting],
                [p for p in pairs if p['a'] in vectors.rows and p['b'] in vectors.rows], vectors)


def nearest_of_many(intents, vectors, rng, rounds=4, among=1):
    """What a cache would find: some intents are stored by one wording, the others are asked."""
    groups = collections.OrderedDict()
    for row in intents:
        groups.setdefault(row['intent'], []).append(row['q'])
    topic = {row['intent']: row['topic'] for row in intents}
    names, pairs, labels = list(groups), [], []
    for round_ in range(rounds):
        keep = rng.random(len(names)) < .5
        stored = [(n, groups[n][rng.integers(len(groups[n]))]) for n, k in zip(names, keep) if k]
        known = {q for _, q in stored}
        asked = [(n, q) for n in names for q in groups[n] if q not in known]
        cosines = vectors.matrix([q for _, q in asked]) @ vectors.matrix([q for _, q in stored]).T
        for i, (name, q) in enumerate(asked):
            for j in np.argsort(-cosines[i])[:among]:
                # Some topics occur twice: near-equal questions of two topics are one question.
                if cosines[i, j] > .9 and stored[j][0] != name and topic[stored[j][0]] != topic[name]:
                    continue
                pairs.append((stored[j][1], q))
                labels.append(stored[j][0] == name)
    return pairs, np.array(labels, bool)


def pairs_of_topics(intents, vectors, rng):
    """Single pairs: wordings of one intent, and each question's nearest of other intents."""
    pairs, labels = [], []
    questions = [r['q'] for r in intents]
    names = np.array([r['intent'] for r in intents])
    topics = [r['topic'] for r in intents]
    cosines = vectors.matrix(questions) @ vectors.matrix(questions).T
    for i, name in enumerate(names):
        same = [j for j in np.flatnonzero(names == name) if j != i]
        for j in rng.permutation(same)[:2]:
            pairs.append((questions[j], questions[i]))
            labels.append(True)
        for j in [j for j in np.argsort(-cosines[i])[:12] if names[j] != name
                  and (topics[j] == topics[i] or cosines[i, j] < .9)][:2]:
            pairs.append((questions[j], questions[i]))
            labels.append(False)
    return pairs, np.array(labels, bool)
