"""Vectors of every text in JSON lines (fields q, a, b), with or without a delta, into one .npz:
`texts` (sorted, each once) and `vectors`.

  embed.py [--delta FILE] OUT.npz FILE.jsonl...
  embed.py --delta FILE --left K/N OUT.npz --intents FILE... --pairs FILE... [FILE.jsonl...]

The second form embeds of --intents and --pairs only what train.py --leave K/N left out.
"""
import argparse

import numpy as np
from safetensors.numpy import load_file

import encoder
import train


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--delta')
    parser.add_argument('--left', type=lambda text: tuple(map(int, text.split('/'))))
    parser.add_argument('--intents', nargs='+', default=[])
    parser.add_argument('--pairs', nargs='+', default=[])
    parser.add_argument('out')
    parser.add_argument('files', nargs='*')
    args = parser.parse_args()
    texts = {row[k] for f in args.files for row in encoder.read_lines(f)
             for k in ('q', 'a', 'b') if k in row}
    if args.left:
        all_of, kept = [[q for topic in train.topics_of(args.intents, args.pairs, leave) for _, q in topic]
                        for leave in (None, args.left)]
        texts |= set(all_of) - set(kept)
    texts = sorted(texts)
    weights = encoder.load_weights()
    if args.delta:
        delta = {k: v.astype(np.float32) for k, v in load_file(args.delta).items()}
        weights = {k: np.asarray(v) for k, v in encoder.tuned(weights, delta).items()}
    vectors = encoder.embed(weights, encoder.load_tokenizer(), texts)
    np.savez(args.out, texts=np.array(texts, dtype=object), vectors=vectors)


if __name__ == '__main__':
    main()
