"""Fits the weights of cache/verify (signs fixed) and their calibration to the project's own pairs.

  fit.py --tool similarity_features --held-out PART.npz...
         [--vectors SHIPPED.npz] [--shared DIR] [--write weights.inc]

An encoder's cosines on questions it was tuned on are too good, so each PART.npz has vectors of
questions that its encoder was not tuned on, and of no others (train_encoder/embed.py --left). For
each part: fitted on the other parts and measured on it; then fitted on all, which is what ships.
qqp-dev.jsonl of --shared is measured only, by --vectors; nothing of it enters.
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


KINDS = ('many', 'single', 'adversarial', 'natural')


def sample(parts, rng):
    """Of each kind of data: pairs, labels and cosines."""
    out = {kind: [] for kind in KINDS}
    for part in parts:
        found = {'many': data.nearest_of_many(part.intents, part.vectors, rng),
                 'single': data.pairs_of_topics(part.intents, part.vectors, rng)}
        for kind in ('adversarial', 'natural'):
            rows = [p for p in part.pairs if p['kind'] == kind]
            found[kind] = ([(p['a'], p['b']) for p in rows], np.array([p['label'] for p in rows], bool))
        for kind, (texts, labels) in found.items():
            if texts:
                out[kind].append((texts, labels, part.vectors.cosines(texts)))
    return {kind: ([t for texts, _, _ in found for t in texts],
                   np.concatenate([y for _, y, _ in found]), np.concatenate([c for _, _, c in found]))
            for kind, found in out.items() if found}


def joined(tool, samples, shares):
    """Features, labels and weights of a sample; each kind has its share of the weight."""
    kinds = [k for k in samples if shares[k] > 0]
    x = np.concatenate([tool.features(samples[k][0], samples[k][2]) for k in kinds])
    y = np.concatenate([samples[k][1] for k in kinds])
    w = np.concatenate([np.full(len(samples[k][1]), shares[k] / len(samples[k][1])) for k in kinds])
    return x, y, w


def fit_weights(tool, x, y, w, options):
    """Logistic regression by L-BFGS within the signs; features scaled to one deviation. What speaks
    against serving keeps a smallest weight: a finding that these questions have no use for, since
    the encoder sees it too, is still right about those that are not like them."""
    scale = x.std(0) + 1e-6
    z = x / scale
    least = options['least'] * scale

    def loss(t):
        m = z @ t[:-1] + t[-1]
        p = 1 / (1 + np.exp(-m))
        value = (w * np.logaddexp(0, np.where(y, -m, m))).sum() + options['ridge'] * (t[:-1] ** 2).sum()
        g = w * (p - y)
        return value, np.append(z.T @ g + 2 * options['ridge'] * t[:-1], g.sum())

    bounds = [(0, None) if s > 0 else (None, -l) for s, l in zip(tool.signs, least)] + [(None, None)]
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


def fit(tool, parts, options, seed=1):
    rng = np.random.default_rng(seed)
    x, y, w = joined(tool, sample(parts, rng), {k: options[k] for k in KINDS})
    weights, bias = fit_weights(tool, x, y, w, options)
    # Calibrated on what a cache would find and on natural pairs, and on near misses as a warning.
    x, y, w = joined(tool, sample(parts, rng), {k: options['calibrate_' + k] for k in KINDS})
    return Model(tool, weights, bias, calibration(x @ weights + bias, y, w))


def report(name, model, part, natural_pairs, vectors, modules):
    """Prints and returns the measures on one part, and on natural pairs by other vectors."""
    c = measure.cache([r for r in part.intents if 'more' not in r], part.vectors, model.score,
                      modules[0], THRESHOLD)
    a = measure.adversarial([p for p in part.pairs if p['kind'] == 'adversarial' and 'more' not in p],
                            part.vectors, model.score, THRESHOLD)
    line = f'{name}: cache {c[0]} at .85 {c[1]}'
    figures = [*c[0], *c[1], *a[0], a[1]]
    if natural_pairs:
        n = measure.natural(natural_pairs, vectors, model.score, modules[1], THRESHOLD)
        line += f' | natural {n[0]} at .85 {n[1]}'
        figures += [*n[0], *n[1]]
    print(line + f' | adversarial at .85 {a[0]}, misses at .33 {a[1]}', flush=True)
    return figures


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


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tool', required=True)
    parser.add_argument('--questions', default=os.path.join(os.path.dirname(__file__), 'questions'))
    parser.add_argument('--held-out', nargs='+', required=True)
    parser.add_argument('--vectors')
    parser.add_argument('--shared', default='../shared')
    parser.add_argument('--write')
    for kind, share, calibrated in (('many', 1, 1), ('single', .5, 0), ('adversarial', 1, 0),
                                    ('natural', 1, .3)):
        parser.add_argument('--' + kind, type=float, default=share)
        parser.add_argument('--calibrate-' + kind, type=float, default=calibrated)
    parser.add_argument('--ridge', type=float, default=.03)
    parser.add_argument('--least', type=float, default=.3)
    parser.add_argument('--rounds', type=int, default=1)
    parser.add_argument('--reach', type=float, default=.6)
    return parser.parse_args()


def read_questions(folder):
    """(intents, pairs); what is marked `more` is to learn from, not to be measured on."""
    read = lambda name: data.read_lines(os.path.join(folder, name + '.jsonl'))
    marked = lambda name: {'more': True} if 'more' in name else {}
    intents = ('intents', 'intents_more', 'intents_more2')
    kinds = (('pairs', 'adversarial'), ('pairs_more', 'adversarial'), ('pairs_more2', 'adversarial'),
             ('natural', 'natural'), ('natural_more', 'natural'))
    return ([row | marked(name) for name in intents for row in read(name)],
            [row | {'kind': kind} | marked(name) for name, kind in kinds for row in read(name)])


def main():
    args = arguments()
    options = vars(args)
    modules = [measure.module(os.path.join(args.shared, f)) for f in ('cache_eval.py', 'accept.py')]
    natural = data.read_lines(os.path.join(args.shared, 'data', 'qqp-dev.jsonl'))
    tool = data.Tool(args.tool)
    questions = read_questions(args.questions)
    parts = [data.part(*questions, data.Vectors(path)) for path in args.held_out]
    for i, part in enumerate(parts):
        if not any('more' not in row for row in part.intents):
            continue
        model = fit(tool, parts[:i] + parts[i + 1:], options)
        report(f'{args.held_out[i]}, fitted on the others', model, part,
               natural if part.vectors.has(natural) else None, part.vectors, modules)
    model = fit(tool, parts, options)
    if args.vectors:
        shipped = data.Vectors(args.vectors)
        n = measure.natural(natural, shipped, model.score, modules[1], THRESHOLD)
        print(f'the encoder that ships, natural: {n[0]} at .85 {n[1]}')
    for name, weight in zip(tool.names, model.weights):
        print(f'  {name:18} {weight:8.3f}')
    if args.write:
        write(args.write, model)


if __name__ == '__main__':
    main()
