"""Vectors of every text in JSON lines (fields q, a, b), with or without a delta, into one .npz:
`texts` (sorted, each once) and `vectors`.   embed.py [--delta FILE] OUT.npz FILE.jsonl ..."""
import argparse

import numpy as np
from safetensors.numpy import load_file

import encoder


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--delta')
    parser.add_argument('out')
    parser.add_argument('files', nargs='+')
    args = parser.parse_args()
    texts = sorted({row[k] for f in args.files for row in encoder.read_lines(f)
                    for k in ('q', 'a', 'b') if k in row})
    weights = encoder.load_weights()
    if args.delta:
        delta = {k: v.astype(np.float32) for k, v in load_file(args.delta).items()}
        weights = {k: np.asarray(v) for k, v in encoder.tuned(weights, delta).items()}
    vectors = encoder.embed(weights, encoder.load_tokenizer(), texts)
    np.savez(args.out, texts=np.array(texts, dtype=object), vectors=vectors)


if __name__ == '__main__':
    main()
