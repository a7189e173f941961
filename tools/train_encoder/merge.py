"""The mean of several deltas, cut to a rank.   merge.py OUT.safetensors RANK DELTA.safetensors ..."""
import sys

import numpy as np
from safetensors.numpy import load_file, save_file


def main():
    out, rank, *files = sys.argv[1:]
    rank = int(rank)
    deltas = [{k: v.astype(np.float32) for k, v in load_file(f).items()} for f in files]
    merged = {}
    for key in deltas[0]:
        if key.endswith('.add'):
            merged[key] = sum(d[key] for d in deltas) / len(deltas)
        elif key.endswith('.lora_b'):
            a = key.removesuffix('b') + 'a'
            u, s, v = np.linalg.svd(sum(d[key] @ d[a] for d in deltas) / len(deltas), full_matrices=False)
            merged[key] = u[:, :rank] * np.sqrt(s[:rank])
            merged[a] = np.sqrt(s[:rank])[:, None] * v[:rank]
    save_file({k: np.ascontiguousarray(v).astype(np.float16) for k, v in merged.items()}, out)


if __name__ == '__main__':
    main()
