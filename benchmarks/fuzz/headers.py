"""ISMRMRD files, a field of the header or of the lines changed in them."""

from dataclasses import dataclass, field

import numpy as np
from fuzz.arrays import DISC, SIDE, coils, transform
from fuzz.oracle import Seen

XML = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>128000000</H1resonanceFrequency_Hz>
</experimentalConditions>
<encoding><encodedSpace><matrixSize><x>{ex}</x><y>{ey}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{rx}</x><y>{ry}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{kx}</x><y>{fy}</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum>
<center>{centre}</center></kspace_encoding_step_1></encodingLimits>
<trajectory>{trajectory}</trajectory></encoding>
<sequenceParameters>{times}</sequenceParameters></ismrmrdHeader>
"""


@dataclass
class File:
    """A header and its lines."""

    truth: float
    curve: np.ndarray
    times: dict  # of sequenceParameters: texts by name
    header: dict
    heads: dict = field(default_factory=dict)  # of the lines, all alike
    contrasts: list[int] = field(default_factory=list)  # counters of the echoes
    options: dict = field(default_factory=dict)
    key: str = "TE"
    clash: str = ""


def start(rng):
    """Six echoes, fully sampled, four coils."""
    truth = rng.uniform(0.05, 0.12)
    te = np.arange(1, 7) * 0.015
    times = {
        "TR": ["3000"],
        "TE": [f"{1e3 * t:g}" for t in te],
        "flipAngle_deg": ["90"],
    }
    sizes = {"ex": SIDE, "ey": SIDE, "rx": SIDE, "ry": SIDE, "fx": 240, "fy": 240}
    more = {"kx": 240, "last": SIDE - 1, "centre": SIDE // 2, "trajectory": "cartesian"}
    return File(
        truth, np.exp(-te / truth), times, sizes | more,
        {"center_sample": SIDE // 2}, list(range(6)),
    )  # fmt: skip


def mutate(rng, f):
    """Change one thing; returns what was done."""
    return OPERATORS[rng.integers(len(OPERATORS))](rng, f)


def _named(rng, f):
    return str(rng.choice(["TE", "TE", *f.times]))


def drop(rng, f):
    key = _named(rng, f)
    if rng.random() < 0.5:
        f.times[key] = []
        return f"drop all {key}"
    f.times[key].pop(int(rng.integers(len(f.times[key]))))
    return f"drop one {key}"


def scale(rng, f):
    key, factor = _named(rng, f), float(rng.choice([1e-3, 0.1, 0.5, 2, 10, 1000]))
    at = range(len(f.times[key]))
    at = [int(rng.choice(at))] if rng.random() < 0.5 else at
    for n in at:
        f.times[key][n] = f"{float(f.times[key][n]) * factor:g}"
    return f"scale {'one' if len(at) == 1 else 'all'} {key} by {factor:g}"


def reorder(rng, f):
    how = str(rng.choice(["reverse", "shuffle", "swap"]))
    te = f.times["TE"]
    if how == "swap":
        a, b = rng.choice(len(te), 2, replace=False)
        te[a], te[b] = te[b], te[a]
    else:
        order = range(len(te))[::-1] if how == "reverse" else rng.permutation(len(te))
        f.times["TE"] = [te[n] for n in order]
    return f"{how} TE"


def repeat(rng, f):
    key = _named(rng, f)
    n = int(rng.integers(len(f.times[key])))
    f.times[key].insert(n, f.times[key][n])
    if key == "TR":
        f.clash = ""
    return f"repeat {key}"


def retype(rng, f):
    key = _named(rng, f)
    how = str(rng.choice(["ten", "", "10 ms", "nan", "-5", "1e400"]))
    f.times[key][int(rng.integers(len(f.times[key])))] = how
    f.clash = f"{key} {how!r}"
    return f"{how!r} as {key}"


def rename(rng, f):
    f.times[str(rng.choice(["TI", "echo_spacing"]))] = f.times.pop("TE")
    f.clash = "TE has another name"
    return "TE under another name"


def sizes(rng, f):
    key = str(rng.choice(["ex", "ey", "rx", "ry", "fx", "fy", "kx", "last"]))
    factor = float(rng.choice([0.5, 2, 1000, 0, -1]))
    f.header[key] = int(f.header[key] * factor)
    if key in ("ex", "ey", "last") or factor <= 0:
        f.clash = "size of the data"
    return f"scale {key} by {factor:g}"


def centre(rng, f):
    key = str(rng.choice(["centre", "center_sample"]))
    step = int(rng.choice([-8, -4, 4, 8, 40]))
    if key == "centre":
        f.header[key] += step
    else:
        f.heads[key] += step
    f.clash = "centre of k-space"
    return f"move {key} by {step}"


def trajectory(rng, f):
    f.header["trajectory"] = str(rng.choice(["radial", "spiral", "other", ""]))
    f.clash = "trajectory" if f.header["trajectory"] in ("radial", "spiral") else ""
    return f"trajectory {f.header['trajectory']!r}"


def counters(rng, f):
    """Two echoes under each other's counter, or two under one."""
    a, b = rng.choice(6, 2, replace=False)
    if rng.random() < 0.5:  # the same as if the other echo had been measured there
        f.curve[[a, b]] = f.curve[[b, a]]
        return "swap the counters of two echoes"
    f.contrasts[a] = int(b)
    f.clash = "two echoes of one counter"
    return "two echoes under one counter"


OPERATORS = [
    drop, scale, scale, reorder, repeat, retype, rename, sizes, sizes, centre,
    trajectory, counters,
]  # fmt: skip


def seen(f):
    """As a person would read it."""
    te, tr = f.times.get("TE", []), f.times.get("TR", [])
    try:
        times = 1e-3 * np.array(te, float)
        repetition = 1e-3 * float(tr[0]) if tr else None
    except ValueError:
        return Seen("t2", None, f.curve, None), f.clash
    return Seen("t2" if te else "", times, f.curve, repetition), f.clash


def write(f, folder, rng):
    """The file, all lines at once: line by line it takes a second."""
    import h5py
    from ismrmrd.hdf5 import acquisition_dtype

    images = DISC * (1 + 1e-3 * rng.normal(size=DISC.shape))
    kspace = transform(images * coils())  # [C, H, W]
    text = "".join(f"<{n}>{v}</{n}>" for n, values in f.times.items() for v in values)
    lines = np.zeros(6 * SIDE, acquisition_dtype)
    head = lines["head"]
    head["version"] = 1
    head["number_of_samples"] = SIDE
    head["available_channels"] = head["active_channels"] = len(kspace)
    head["channel_mask"][:, 0] = 2 ** len(kspace) - 1
    head["sample_time_us"] = 5
    for n, name in enumerate(("read_dir", "phase_dir", "slice_dir")):
        head[name][:, n] = 1
    for name, value in f.heads.items():
        head[name] = value
    head["idx"]["kspace_encode_step_1"] = np.tile(np.arange(SIDE), 6)
    head["idx"]["contrast"] = np.repeat(f.contrasts, SIDE)
    for n in range(len(lines)):
        data = f.curve[n // SIDE] * kspace[:, :, n % SIDE]
        lines["data"][n] = data.astype(np.complex64).ravel().view(np.float32)
        lines["traj"][n] = np.zeros(0, np.float32)
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = [XML.format(times=text, **f.header).encode()]
        file.create_dataset("dataset/data", data=lines, dtype=acquisition_dtype)
    return path
