"""Small folders of bags as the tools write them, for tests of readers and of what uses them."""

import h5py
import numpy as np
import torch


def features(size, width=4, seed=0, dtype=np.float16):
    """`(size, width)` features that tell rows apart."""
    return np.random.default_rng((seed, size, width)).standard_normal((size, width)).astype(dtype)


def grid(size, stride=256):
    """`(size, 2)` int64 coords, ten tiles in a row."""
    return np.stack([np.arange(size) % 10, np.arange(size) // 10], axis=1) * stride


def write_h5(path, arrays, attributes=None, **options):
    """Data sets by their keys; attributes by the key that they are of, empty for the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file.create_dataset(key, data=values, **options)
        for key, values in (attributes or {}).items():
            (file[key] if key else file).attrs.update(values)
    return path


def write_npy(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def write_pt(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(values, path, **options)
    return path


def plain_folder(root, sizes, **options):
    """`b0.h5`, `b1.h5` and so on with features and coords."""
    for number, size in enumerate(sizes):
        arrays = {"features": features(size, seed=number), "coords": grid(size)}
        write_h5(root / f"b{number}.h5", arrays, **options)
    return root


def truncate(path, share=0.5):
    """Cuts a file off."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))


def write_labels(path, labels, header="slide_id,label"):
    """A CSV of one row a bag."""
    rows = labels.items() if isinstance(labels, dict) else labels
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def labelled_bags(root, count=12, per_patient=2, seed=0, layout="clam", dtype=np.float16):
    """A folder of small bags, every other patient positive, and `labels.csv` beside it.

    In positive bags the first feature is larger; the last one is constant. Returns the labels by
    slide.
    """
    labels = {}
    for number in range(count):
        slide, patient = f"s{number:02d}", number // per_patient
        labels[slide] = ("no", "yes")[patient % 2]
        x = features(5 + number % 4, seed=seed + number, dtype=dtype)
        x[:, 0] += 2 * (patient % 2)
        x[:, -1] = 0.1
        write_layout(root, layout, slide, x, patient % 2)
    rows = [
        (f"p{n // per_patient}", f"{slide}.svs", labels[slide]) for n, slide in enumerate(labels)
    ]
    write_labels(root.parent / "labels.csv", rows, "case_id,slide_id,label")
    return labels


def write_layout(root, layout, slide, x, label):
    """The files of one bag, its first instance positive if it is."""
    coords = grid(len(x))
    if layout == "clam":
        write_pt(root / f"pt_files/{slide}.pt", torch.from_numpy(x))
        write_h5(root / f"h5_files/{slide}.h5", {"features": x, "coords": coords})
    elif layout == "root":
        write_h5(root / f"{slide}.h5", {"features": x, "coords": coords})
    elif layout == "trident":
        write_h5(root / f"features_uni/{slide}.h5", {"features": x, "coords": coords})
    elif layout == "stamp":
        write_h5(root / f"{slide}.h5", {"feats": x, "coords": coords / 2}, {"": {"unit": "um"}})
    elif layout == "torchmil":
        inst_labels = np.eye(len(x), dtype=np.int64)[0] * label
        parts = {"features": x, "coords": coords, "inst_labels": inst_labels}
        for name, values in (*parts.items(), ("labels", np.array([label]))):
            write_npy(root / name / f"{slide}.npy", values)
