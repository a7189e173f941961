"""Reads the weights out of an ONNX file of a BERT-like encoder, named as in safetensors.

Needs no onnx package: of the protobuf wire format and of ONNX's schema only what it takes. The
weights of matrix products have lost their names in the export; the bias that is added to each
product has kept its own, and names the weight. Quantised weights (MatMulInteger, or
DequantizeLinear) come back as floats.
"""

import struct

import numpy as np

TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 10: np.float16}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data):
    """(number, value) of each field of one message; submessages and strings are memoryviews."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("not an ONNX file")
        yield number, value


def integers(value):
    """A repeated integer field, packed or not."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        numbers.append(number)
    return numbers


def read_tensor(data):
    dims, kind, name, raw, packed = [], 0, "", None, []
    for number, value in fields(data):
        if number == 1:
            dims += integers(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = bytes(value).decode()
        elif number == 9:
            raw = value
        elif number == 4:
            raw = value  # float_data, packed: the same bytes
        elif number in (5, 7):
            packed += integers(value)
    if kind not in TYPES:
        return name, None
    if raw is None:
        return name, np.array(packed).astype(TYPES[kind]).reshape(dims)
    return name, np.frombuffer(raw, TYPES[kind]).reshape(dims)


def read_node(data):
    node = {"inputs": [], "outputs": [], "type": ""}
    for number, value in fields(data):
        if number in (1, 2):
            node["inputs" if number == 1 else "outputs"].append(bytes(value).decode())
        elif number == 4:
            node["type"] = bytes(value).decode()
    return node


def read_graph(path):
    with open(path, "rb") as file:
        model = memoryview(file.read())
    graph = next(value for number, value in fields(model) if number == 7)
    nodes, tensors = [], {}
    for number, value in fields(graph):
        if number == 1:
            nodes.append(read_node(value))
        elif number == 5:
            name, tensor = read_tensor(value)
            tensors[name] = tensor
    return nodes, tensors


def dequantized(tensors, name):
    """The floats of a weight that is stored as integers, a scale and a zero point."""
    base = name.removesuffix("_quantized")
    zero = tensors.get(f"{base}_zero_point", np.zeros(1, np.int8))
    scale = tensors[f"{base}_scale"]
    return (tensors[name].astype(np.float32) - zero.astype(np.float32)) * scale


def read_onnx(path):
    nodes, tensors = read_graph(path)
    weights = {}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if name.endswith("_quantized"):
            weights[name.removesuffix("_quantized")] = dequantized(tensors, name)
        elif tensor.dtype in (np.float32, np.float16):
            weights[name] = tensor.astype(np.float32)
    consumers = {}
    for node in nodes:
        for name in node["inputs"]:
            consumers.setdefault(name, []).append(node)
    for node in nodes:
        if node["type"] in ("MatMul", "MatMulInteger"):
            name = node["inputs"][1].removesuffix("_quantized")
            bias = bias_after(node, consumers, weights)
            if name in weights and bias:
                # A product's weight is stored as in x out, safetensors' as out x in.
                weights[bias.removesuffix("bias") + "weight"] = weights[name].T
    return weights


def bias_after(node, consumers, weights):
    """Follows a product's output over casts and scaling to the bias added to it."""
    for _ in range(4):
        following = consumers.get(node["outputs"][0], [])
        if len(following) != 1:
            return None
        node = following[0]
        if node["type"] == "Add":
            return next((n for n in node["inputs"] if n in weights and n.endswith("bias")), None)
        if node["type"] not in ("Cast", "Mul"):
            return None
    return None
