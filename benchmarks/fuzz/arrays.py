"""Files of our own layout, npz and HDF5, with one array changed in them."""

from dataclasses import dataclass, field

import numpy as np
from fuzz.oracle import Seen

SIDE = 24
ROWS, COLUMNS = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
DISC = np.hypot(ROWS, 1.2 * COLUMNS) < 0.7
KEYS = {"te": "t2", "ti": "t1", "fa": "vfa"}


@dataclass
class File:
    """Arrays by name."""

    suffix: str
    key: str
    truth: float
    curve: np.ndarray
    arrays: dict
    options: dict = field(default_factory=dict)
    clash: str = ""


def coils(count=4):
    """Smooth sensitivities [C, H, W]."""
    turns = 2 * np.pi * np.arange(count)[:, None, None] / count
    sens = np.exp(
        -0.5 * ((ROWS - np.sin(turns)) ** 2 + (COLUMNS - np.cos(turns)) ** 2)
        + 1j * turns
    )
    return sens / np.linalg.norm(sens, axis=0)


def transform(images):
    """Centred k-space, unitary, of the last two axes."""
    axes = (-2, -1)
    return np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(images, axes), norm="ortho"), axes
    )


def start(rng):
    """Images or k-space of a decay or of flip angles."""
    kind = str(rng.choice(["kspace", "images"]))
    if rng.random() < 0.6:
        key, truth = "te", rng.uniform(0.05, 0.12)
        times = np.arange(1, 7) * 0.015
        curve, tr = np.exp(-times / truth), 3.0
    else:
        key, truth, tr = "fa", rng.uniform(0.6, 1.6), 0.02
        times = np.deg2rad([2, 4, 8, 14, 22, 30])
        e = np.exp(-tr / truth)
        curve = np.sin(times) * (1 - e) / (1 - np.cos(times) * e)
    images = DISC * curve[:, None, None] * (1 + 1e-3 * rng.normal(size=DISC.shape))
    arrays = {key: times, "tr": np.array(tr), "voxel_mm": np.array([2.0, 2, 3])}
    if kind == "kspace":
        data = transform(images[:, None] * coils()).astype(np.complex64)
        arrays |= {"kspace": data, "sens": coils().astype(np.complex64)}
    else:
        arrays["images"] = images.astype(np.float32)
    return File(str(rng.choice([".npz", ".h5"])), key, truth, curve, arrays)


def _data(f):
    return "kspace" if "kspace" in f.arrays else "images"


def mutate(rng, f):
    """Change one thing; returns what was done."""
    return OPERATORS[rng.integers(len(OPERATORS))](rng, f)


def drop(rng, f):
    key = str(rng.choice([*f.arrays]))
    del f.arrays[key]
    f.clash = "no data" if key in ("kspace", "images") else ""
    return f"drop {key}"


def rename(rng, f):
    other = str(rng.choice([k for k in KEYS if k != f.key]))
    f.arrays[other] = f.arrays.pop(f.key)
    f.clash = "another contrast than the signal's"
    return f"{f.key} as {other}"


def scale(rng, f):
    key = str(rng.choice([f.key, f.key, "tr", "voxel_mm"]))
    factor = float(rng.choice([1e-3, 0.1, 0.5, 2, 10, 1000]))
    values = np.array(f.arrays[key], float)
    at = int(rng.integers(values.size)) if rng.random() < 0.5 else slice(None)
    values.reshape(-1)[at] *= factor
    f.arrays[key] = values
    return f"scale {key} of {'all' if isinstance(at, slice) else 'one'} by {factor:g}"


def swap(rng, f):
    what = str(rng.choice([f.key, _data(f)]))
    a, b = rng.choice(len(f.curve), 2, replace=False)
    values = np.array(f.arrays[what])
    values[[a, b]] = values[[b, a]]
    f.arrays[what] = values
    if what != f.key:
        f.curve[[a, b]] = f.curve[[b, a]]
    return f"swap two of {what}"


def reorder(rng, f):
    how = str(rng.choice(["reverse", "shuffle", "shift"]))
    values = f.arrays[f.key]
    f.arrays[f.key] = {
        "reverse": values[::-1],
        "shuffle": rng.permutation(values),
        "shift": np.roll(values, 1),
    }[how]
    return f"{how} {f.key}"


def repeat(rng, f):
    """One time more than images, or less, or one that is there already."""
    how = str(rng.choice(["longer", "shorter", "equal"]))
    values = np.array(f.arrays[f.key])
    if how == "equal":
        values[1] = values[0]
    f.arrays[f.key] = {
        "longer": np.append(values, values[-1]),
        "shorter": values[:-1],
        "equal": values,
    }[how]
    return f"{how} {f.key}"


def retype(rng, f):
    key = str(rng.choice([f.key, "tr"]))
    how = str(rng.choice(["S8", "i4", "f2", "c8", "bool", "2-D", "nan", "negative"]))
    values = np.asarray(f.arrays[key])
    if how in ("S8", "i4", "f2", "c8", "bool"):
        values = values.astype(how)
    elif how == "nan":
        values = values * np.nan
    else:
        values = -values if how == "negative" else np.stack([values, 2 * values])
    f.arrays[key] = values
    clash = {"S8", "c8", "2-D"} | ({"bool"} if key == f.key else set())
    f.clash = f"{key} is {how}" if how in clash else ""
    return f"{key} as {how}"


def store(rng, f):
    key = _data(f)
    data = f.arrays[key]
    kinds = {
        "kspace": ["c16", ">c8", "pairs", "integer pairs", "real", "f2 pairs"],
        "images": ["f8", ">f4", "i2", "u1", "c8", "f2", "bool"],
    }[key]
    how = str(rng.choice(kinds))
    if "pairs" in how:
        pairs = np.stack([data.real, data.imag], -1)
        pairs = (1000 * pairs).round() if "integer" in how else pairs
        kind = {"pairs": "f4", "integer pairs": "i4", "f2 pairs": "f2"}[how]
        f.arrays[key] = pairs.astype(kind)
    elif how in ("i2", "u1"):
        f.arrays[key] = (200 * data / data.max()).round().astype(how)
    elif how == "real":
        f.arrays[key], f.clash = data.real, "k-space without an imaginary part"
    else:
        f.arrays[key] = data.astype(how)
        f.clash = "dtype" if how in ("c8", "bool") and key == "images" else ""
    return f"{key} as {how}"


def move_axes(rng, f):
    key = _data(f)
    data = f.arrays[key]
    a, b = (int(n) for n in rng.choice(data.ndim, 2, replace=False))
    f.arrays[key] = np.swapaxes(data, a, b)
    spatial = {a, b} == {data.ndim - 2, data.ndim - 1}
    f.clash = "" if spatial and key == "images" else "order of the axes"
    if spatial and key == "kspace":
        f.arrays.pop("sens")  # else those would contradict
        f.clash = ""
    return f"swap axes {a} and {b} of {key}"


def shift(rng, f):
    """The zero frequency away from the centre, as without an fftshift or with two."""
    if _data(f) == "images":
        return scale(rng, f)
    step = int(rng.choice([1, 4, SIDE // 2]))
    f.arrays["kspace"] = np.roll(f.arrays["kspace"], step, -1)
    f.arrays.pop("sens")
    f.clash = "centre of k-space" if step > 1 else ""
    return f"roll k-space by {step}"


OPERATORS = [
    drop, rename, scale, scale, scale, swap, swap, reorder, repeat, retype, store,
    move_axes, shift,
]  # fmt: skip


def seen(f):
    """As a person would read it."""
    keys = [k for k in KEYS if k in f.arrays]
    model = KEYS[keys[0]] if keys else ""
    times = np.asarray(f.arrays[keys[0]]) if keys else np.zeros(0)
    good = times.ndim == 1 and times.dtype.kind in "fiu"
    tr = np.asarray(f.arrays.get("tr", np.nan))
    numeric = tr.dtype.kind in "fiub" and np.isfinite(tr).all() and tr.size == 1
    repetition = float(tr.ravel()[0]) if numeric else None
    odd = "tr" in f.arrays and repetition is None
    clash = f.clash or ("tr is no number" if odd else "")
    return Seen(
        model, times.astype(float) if good else None, f.curve, repetition
    ), clash


def write(f, folder, _):
    """The file."""
    path = folder / f"scan{f.suffix}"
    if f.suffix == ".npz":
        np.savez(path, **f.arrays)
        return path
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in f.arrays.items():
            file[name] = values
    return path
