"""Ways to spoil files and values for `scripts/fuzz.py`, each by the draws of a generator.

Bytes of a file, lines and cells of a text, one value of a tree of values, or what the arrays of a
file are.
"""

import copy
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

# What stands where a number, a word or a collection was expected.
VALUES = [
    *(None, True, False, 0, -1, 1.5, 10**12, 10**25, -(10**12), float("nan"), float("inf"), 1e-300),
    *("", " ", "word", "null", "../../x", "${seed}", "${nothing}", "1e5", "é\u200b", "x" * 5000),
    *([], [1], ["a", None], {}, {"a": 1}, {"_target_": "os.getcwd"}, [[[]]], {1: {2: 3}}),
]
CELLS = ["", "NaN", "?", "1e999", "-1", '"', ",", ";", "\0", "\r", "é", "=1+1", "0" * 400, "\ufeff"]

Draw = random.Random


def spoil_bytes(path: Path, draw: Draw) -> None:
    """Turns bits over, cuts off, empties, doubles or fills in a part."""
    content = bytearray(path.read_bytes())
    at = draw.randrange(len(content))
    size = draw.choice([1, 4, 64, 1000])
    how = draw.randrange(6)
    if how == 0:
        for _ in range(draw.choice([1, 8, 64])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif how == 1:
        del content[at:]
    elif how == 2:
        content[at : at + size] = bytes(len(content[at : at + size]))
    elif how == 3:
        content[at:at] = content[at : at + size]
    elif how == 4:
        content[at : at + size] = draw.randbytes(size)
    else:
        # Headers and tables of contents stand at the ends.
        for _ in range(4):
            content[draw.randrange(min(200, len(content)))] = draw.randrange(256)
            content[-1 - draw.randrange(min(200, len(content)))] = draw.randrange(256)
    path.write_bytes(content)


def spoil_text(path: Path, draw: Draw, mark: str = ",") -> None:
    """Changes, doubles, removes or exchanges lines and cells."""
    lines = path.read_text().split("\n")
    for _ in range(draw.choice([1, 1, 3])):
        at = draw.randrange(len(lines))
        how = draw.randrange(5)
        if how == 0:
            cells = lines[at].split(mark)
            cells[draw.randrange(len(cells))] = draw.choice(CELLS)
            lines[at] = mark.join(cells)
        elif how == 1:
            lines.insert(at, lines[draw.randrange(len(lines))])
        elif how == 2 and len(lines) > 1:
            del lines[at]
        elif how == 3:
            lines[at] = lines[at][draw.randrange(len(lines[at]) + 1) :]
        else:
            lines[0] = lines[0].replace(draw.choice(lines[0].split(mark)), draw.choice(CELLS), 1)
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def spoil_tree(tree: Any, draw: Draw) -> Any:
    """Plain data with one value in it exchanged, or one key left out."""
    tree = copy.deepcopy(tree)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in list(keys):
            places.append((node, key))
            if isinstance(node[key], dict | list) and len(node[key]) < 200:
                collect(node[key])

    collect(tree)
    node, key = draw.choice(places)
    if isinstance(node, dict) and draw.random() < 0.25:
        del node[key]
    else:
        node[key] = draw.choice(VALUES)
    return tree


def odd_array(draw: Draw) -> Any:
    """An array of a kind that features seldom are."""
    shape = draw.choice([(), (0,), (5,), (0, 4), (5, 0), (5, 4), (5, 4), (1, 5, 4), (5, 4, 3)])
    kind = draw.choice(["f8", ">f4", "f2", "i8", "u1", "?", "c8", "S5", "m8[s]", "nan", "f4,i4"])
    if kind == "nan":
        return np.full(shape, draw.choice([np.nan, np.inf, 1e38]), np.float64)
    return np.ones(shape).astype(kind if "," not in kind else "f4").astype(kind)


def odd_h5(path: Path, draw: Draw) -> None:
    """The same file with another array, attribute or link in it."""
    with h5py.File(path, "a") as file:
        key = draw.choice(["features", "coords", "inst_label"])
        how = draw.randrange(6)
        if key in file and how != 3:
            del file[key]
        if how == 0:
            huge = draw.choice([(2**31, 2**31), (2**40, 4), (2**62, 1), (5, 2**33)])
            file.create_dataset(key, huge, "f4", chunks=(1, 1))
        elif how == 1:
            file.create_group(key)
        elif how == 2:
            file[key] = h5py.SoftLink(draw.choice([f"/{key}", "/", "coords", "nothing/there"]))
        elif how == 3:
            file.attrs[draw.choice(["patch_size_level0", "unit", "tile_size_um"])] = odd_array(draw)
            file["coords"].attrs["patch_size_level0"] = draw.choice(["x", -1.0, np.nan, [1, 2]])
        elif how == 4:
            file[key] = draw.choice(["text", [b"a", b"b"], h5py.Empty("f4")])
        else:
            array = odd_array(draw)
            if array.dtype.kind != "m":  # HDF5 has no such type
                file[key] = array


def odd_pt(path: Path, draw: Draw) -> None:
    """Another object, or a tensor of another kind."""
    x = torch.ones(5, 4)
    odd = [
        *([x], {"features": x, "other": [1]}, {"a": {"b": x}}, {1: x}, {}, None, 3, "text", (x, x)),
        *(x.to_sparse(), x.to_sparse_csr(), x.bool(), x.to(torch.complex64), x.bfloat16()),
        *(x[:0], x[0], x[None], x.mT, torch.empty(5, 4, device="meta"), torch.nn.Parameter(x)),
        *(x.to(torch.float8_e4m3fn), torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)),
        *(torch.ones(1, 1).expand(2**40, 4), torch.ones(1, 4).expand(2**20, 4), x * torch.nan),
        *(torch.nested.nested_tensor([x, x]), {"features": x, "coords": x}, Exception),
    ]
    torch.save(draw.choice(odd), path)


def odd_npy(path: Path, draw: Draw) -> None:
    """An array of another kind, or a header that says something else."""
    if draw.random() < 0.6:
        array = odd_array(draw)
        np.save(path, array.astype(object) if draw.random() < 0.1 else array, allow_pickle=True)
        return
    shape = draw.choice(["(-1, 4)", "(5, 2**70)", f"({2**40}, 4)", "(True, 4)", "5", "(5.0, 4)"])
    kind = draw.choice(["<f4", "<f4", "O", "|V0", "<U0", "[('a', '<f4')]", "nonsense"])
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
