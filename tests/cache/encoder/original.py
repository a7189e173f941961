"""The original sentence encoder, in numpy and full floats, from the files it is published in: what
ours is compared with. Needs PyPI's numpy and tokenizers."""

import json
import math
import os
import sys

import numpy as np
from tokenizers import Tokenizer

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "tools")
sys.dont_write_bytecode = True
sys.path.insert(0, TOOLS)


def load_convert_model():
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    loader = SourceFileLoader("convert_model", os.path.join(TOOLS, "convert_model"))
    module = module_from_spec(spec_from_loader("convert_model", loader))
    loader.exec_module(module)
    return module



def fast_erf(x):
    """To 1.2e-7, by numpy alone."""
    z = np.abs(x.astype(np.float64))
    t = 1 / (1 + 0.5 * z)
    series = (1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807)
    series += (-1.13520398, 1.48851587, -0.82215223, 0.17087277)
    power = sum(c * t ** (i + 1) for i, c in enumerate(series)) - 1.26551223
    return (np.sign(x) * (1 - t * np.exp(-z * z + power))).astype(np.float32)


def layer_norm(x, gain, bias, epsilon):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * gain + bias


class Bert:
    def __init__(self, tensors, heads, pooling, epsilon=1e-12):
        self.tensors, self.heads, self.pooling, self.epsilon = tensors, heads, pooling, epsilon

    def dense(self, x, name):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, x, name):
        name += ".LayerNorm"
        gain, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return layer_norm(x, gain, bias, self.epsilon)

    def attention(self, x, name):
        tokens, width = x.shape
        split = (tokens, self.heads, width // self.heads)
        parts = (self.dense(x, f"{name}.{p}") for p in ("query", "key", "value"))
        query, key, value = (part.reshape(split).transpose(1, 0, 2) for part in parts)
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(split[2])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return (shares @ value).transpose(1, 0, 2).reshape(tokens, width)

    def vector(self, ids):
        tensors = self.tensors
        x = tensors["embeddings.word_embeddings.weight"][ids]
        x = x + tensors["embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(x + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings")
        layer = 0
        while f"encoder.layer.{layer}.output.dense.weight" in tensors:
            name = f"encoder.layer.{layer}"
            attended = self.attention(x, f"{name}.attention.self")
            attended = self.dense(attended, f"{name}.attention.output.dense")
            x = self.norm(x + attended, f"{name}.attention.output")
            inner = self.dense(x, f"{name}.intermediate.dense")
            inner = 0.5 * inner * (1 + fast_erf(inner / np.float32(math.sqrt(2))))
            x = self.norm(x + self.dense(inner, f"{name}.output.dense"), f"{name}.output")
            layer += 1
        pooled = x.mean(0) if self.pooling == "mean" else x[0]
        return pooled / np.linalg.norm(pooled)


def tokenizer(path, longest=256):
    original = Tokenizer.from_file(path)
    original.no_padding()
    original.enable_truncation(longest)
    return original


def minilm(folder):
    tensors = load_convert_model().read_weights(folder)
    return Bert(tensors, 12, "mean"), tokenizer(os.path.join(folder, "tokenizer.json"))


def stsb(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def ranks(values):
    values = np.asarray(values)
    order = np.argsort(values, kind="stable")
    found = np.empty(len(values))
    found[order] = np.arange(len(values))
    for value in np.unique(values):
        same = values == value
        found[same] = found[same].mean()
    return found


def spearman(a, b):
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
