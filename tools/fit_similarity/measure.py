"""The three measures of issue and docs: cache, natural, adversarial. `score(pairs, cosines)` gives
the calibrated score of each (stored, asked), -inf where refused."""
import importlib.util
import os

import numpy as np

import data


def module(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def cache(intents, vectors, score, cache_eval, threshold, among=5):
    """[recall at 5 and 10 % wrong], (recall, wrong) at the threshold, best scores, right."""
    groups = {}
    for row in intents:
        groups.setdefault(row['intent'], []).append(row['q'])
    names = list(groups)
    stored = [(n, groups[n][0]) for n in names[::2]]
    asked = [(n, q) for n in names for q in groups[n][1:]]
    cosines = vectors.matrix([q for _, q in asked]) @ vectors.matrix([q for _, q in stored]).T
    top = np.argsort(-cosines, axis=1)[:, :among]
    pairs = [(stored[j][1], asked[i][1]) for i in range(len(asked)) for j in top[i]]
    scores = score(pairs, np.take_along_axis(cosines, top, 1).ravel()).reshape(top.shape)
    choice = scores.argmax(1)
    best = top[np.arange(len(asked)), choice]
    value = scores[np.arange(len(asked)), choice]
    right = np.array([stored[b][0] == n for b, (n, _) in zip(best, asked)])
    return (cache_eval.report(stored, asked, best, value),
            [round(float(x), 3) for x in cache_eval.at(stored, asked, best, value >= threshold)],
            value, right)


def natural(pairs, vectors, score, accept, threshold):
    texts = [(p['a'], p['b']) for p in pairs]
    scores = score(texts, vectors.cosines(texts))
    read = [i for i, p in enumerate(pairs) if 'accept' in p]
    s, y = scores[read], np.array([pairs[i]['accept'] for i in read], bool)
    w = np.array([pairs[i]['w'] for i in read])
    served = s >= threshold
    at = [round(float(x), 3) for x in ((w * y * served).sum() / (w * y).sum(),
                                       (w * ~y * served).sum() / max((w * served).sum(), 1e-9))]
    return accept.curve(pairs, scores), at, s, y, w


def adversarial(pairs, vectors, score, threshold):
    texts = [(p['a'], p['b']) for p in pairs]
    scores = score(texts, vectors.cosines(texts))
    y = np.array([p['label'] for p in pairs], bool)
    served = scores >= threshold
    near = np.sort(scores[y])[::-1]
    at_third = float((scores[~y] >= near[int(.33 * len(near))]).mean())
    by_category = {c: round(float(served[[i for i, p in enumerate(pairs) if p['cat'] == c and not p['label']]].mean()), 2)
                   for c in sorted({p['cat'] for p in pairs if not p['label']})}
    return ([round(float(served[y].mean()), 3), round(float(served[~y].mean()), 3)],
            round(at_third, 3), by_category, scores, y)
