"""Fits the weights of cache/verify (signs fixed) and their calibration to the project's own pairs.

  fit.py --tool similarity_features --vectors FILE.npz --intents FILE --pairs FILE
         [--shared DIR] [--natural FILE] [--vectors-half FILE0.npz FILE1.npz] [--write weights.inc]

Measures honestly first (fitted on one half of topics and groups, measured on the other), then fits
all. --natural is measured only; nothing of it enters a fit.
"""
import argparse
import os

import numpy as np
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

import data
import measure

THRESHOLD = .85


class Model:
    def __init__(self, tool, weights, bias, points):
        self.tool, self.weights, self.bias, self.points = tool, weights, bias, points

    def raw(self, pairs, cosines):
        return self.tool.features(pairs, cosines) @ self.weights + self.bias

    def score(self, pairs, cosines):
        x = self.tool.features(pairs, cosines)
        scores = np.interp(x @ self.weights + self.bias, *self.points)
        scores[x[:, self.tool.names.index('language')] > 0] = -np.inf
        return scores


def sample(intents, pairs, vectors, rng, options):
    """Features' pairs, labels, weights: each kind of data with a total weight of its own."""
    parts = []
    many, labels = data.nearest_of_many(intents, vectors, rng)
    parts.append((many, labels, options['many']))
    single, labels = data.pairs_of_topics(intents, vectors, rng)
    parts.append((single, labels, options['single']))
    parts.append(([(p['a'], p['b']) for p in pairs], np.array([p['label'] for p in pairs], bool), options['adversarial']))
    texts = [t for p, _, _ in parts for t in p]
    y = np.concatenate([l for _, l, _ in parts])
    w = np.concatenate([np.full(len(l), total / len(l)) for _, l, total in parts])
    return texts, y, w


def fit_weights(tool, x, y, w, options):
    """Logistic regression by L-BFGS within the signs; features scaled to one deviation."""
    scale = x.std(0) + 1e-6
    z = x / scale
    signs = tool.signs

    def loss(t):
        m = z @ t[:-1] + t[-1]
        p = 1 / (1 + np.exp(-m))
        value = (w * np.logaddexp(0, np.where(y, -m, m))).sum() + options['ridge'] * (t[:-1] ** 2).sum()
        g = w * (p - y)
        return value, np.append(z.T @ g + 2 * options['ridge'] * t[:-1], g.sum())

    bounds = [(0, None) if s > 0 else (None, 0) for s in signs] + [(None, None)]
    best = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method='L-BFGS-B', bounds=bounds,
                    options={'maxiter': 2000})
    # Likelihood over everything spends its effort on right pairs in quite other words, which are
    # never served anyway, and learns from them that little overlap is safe. So: fitted again, a few
    # times, to the pairs that compete for being served.
    whole = w
    for _ in range(options['rounds']):
        m = z @ best.x[:-1] + best.x[-1]
        floor = np.quantile(m[y], 1 - options['reach'])
        w = whole / (1 + np.exp(-np.clip((m - floor) / .3, -40, 40)))
        w = w * whole.sum() / w.sum()
        best = minimize(loss, best.x, jac=True, method='L-BFGS-B', bounds=bounds,
                        options={'maxiter': 2000})
    return best.x[:-1] / scale, best.x[-1]


def calibration(raw, y, w):
    """Points (raw, share right), rising: isotonic, then smoothed to a few knots."""
    iso = IsotonicRegression(y_min=0, y_max=.995, out_of_bounds='clip').fit(raw, y, sample_weight=w)
    knots = np.quantile(raw, np.linspace(.01, .999, 25))
    width = np.diff(knots).mean()
    values = np.array([iso.predict(k + width * np.linspace(-.5, .5, 9)).mean() for k in knots])
    values = np.maximum.accumulate(values) + np.arange(len(knots)) * 1e-5
    return knots, np.clip(values, 0, .999)


def fit(tool, intents, pairs, vectors, options, seed=1):
    rng = np.random.default_rng(seed)
    texts, y, w = sample(intents, pairs, vectors, rng, options)
    x = tool.features(texts, vectors.cosines(texts))
    weights, bias = fit_weights(tool, x, y, w, options)
    # Calibrated on what a cache would find, and on the near misses as a warning.
    many, labels = data.nearest_of_many(intents, vectors, rng)
    hard = [(p['a'], p['b']) for p in pairs]
    raw = np.concatenate([tool.features(t, vectors.cosines(t)) @ weights + bias for t in (many, hard)])
    y = np.concatenate([labels, [bool(p['label']) for p in pairs]])
    w = np.concatenate([np.full(len(many), 1 / len(many)), np.full(len(hard), options['warning'] / len(hard))])
    return Model(tool, weights, bias, calibration(raw, y, w))


def report(name, model, intents, pairs, natural_pairs, vectors, modules):
    c = measure.cache(intents, vectors, model.score, modules[0], THRESHOLD)
    line = f'{name}: cache {c[0]} at .85 {c[1]}'
    if natural_pairs:
        n = measure.natural(natural_pairs, vectors, model.score, modules[1], THRESHOLD)
        line += f' | natural {n[0]} at .85 {n[1]}'
    a = measure.adversarial(pairs, vectors, model.score, THRESHOLD)
    print(line + f' | adversarial at .85 {a[0]}, misses at .33 {a[1]}', flush=True)
    return a[2]


def write(path, model):
    with open(path, 'w', encoding='utf-8') as out:
        out.write('// Written by tools/fit_similarity/fit.py; do not edit.\n')
        out.write(f'constexpr double kBias = {model.bias:.4f};\n')
        out.write('constexpr double kWeights[kFeatures] = {\n')
        for name, weight in zip(model.tool.names, model.weights):
            out.write(f'    {weight + 0:.4f},  // {name}\n')
        out.write('};\nconstexpr double kCalibration[][2] = {\n')
        for raw, share in zip(*model.points):
            out.write(f'    {{{raw:.4f}, {share:.4f}}},\n')
        out.write('};\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tool', required=True)
    parser.add_argument('--vectors', required=True)
    parser.add_argument('--vectors-half', nargs=2)
    parser.add_argument('--intents', nargs='+', required=True)
    parser.add_argument('--pairs', nargs='+', required=True)
    parser.add_argument('--shared', default='../shared')
    parser.add_argument('--natural')
    parser.add_argument('--write')
    parser.add_argument('--many', type=float, default=1)
    parser.add_argument('--single', type=float, default=.5)
    parser.add_argument('--adversarial', type=float, default=.5)
    parser.add_argument('--warning', type=float, default=.15)
    parser.add_argument('--ridge', type=float, default=1e-3)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--reach', type=float, default=.6)
    args = parser.parse_args()
    options = vars(args)
    modules = [measure.module(os.path.join(args.shared, f)) for f in ('cache_eval.py', 'accept.py')]
    tool = data.Tool(args.tool)
    vectors = data.Vectors(args.vectors)
    intents = [r for f in args.intents for r in data.read_lines(f)]
    pairs = [r for f in args.pairs for r in data.read_lines(f)]
    natural = data.read_lines(args.natural) if args.natural else None
    parts = data.halves(intents, pairs)
    for h in (0, 1):
        v = data.Vectors(args.vectors, args.vectors_half[h]) if args.vectors_half else vectors
        model = fit(tool, *parts[h], v, options)
        misses = report(f'fitted on half {h}, measured on the other', model, *parts[1 - h], natural, v, modules)
    print('near misses served at .85:', misses)
    model = fit(tool, intents, pairs, vectors, options)
    report('fitted on all, measured on all', model, intents, pairs, natural, vectors, modules)
    for name, weight, mean in sorted(zip(tool.names, model.weights, tool.features([(p['a'], p['b']) for p in pairs], vectors.cosines([(p['a'], p['b']) for p in pairs])).std(0)), key=lambda t: -abs(t[1] * t[2])):
        print(f'  {name:18} {weight:8.3f}   x deviation {weight * mean:6.2f}')
    if args.write:
        write(args.write, model)


if __name__ == '__main__':
    main()
