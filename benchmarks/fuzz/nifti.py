"""NIfTI series with sidecars, one field or header changed in them."""

import json
from dataclasses import dataclass, field

import nibabel
import numpy as np
from fuzz.oracle import Seen

SIZE = (12, 16)
KEYS = {
    "EchoTime": ("t2", 1.0),
    "InversionTime": ("t1", 1.0),
    "FlipAngle": ("vfa", np.pi / 180),
}
SHARED = {
    "Manufacturer": "Siemens",
    "MagneticFieldStrength": 3,
    "NumberOfAverages": 1,
    "PixelBandwidth": 200,
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
}


@dataclass
class Series:
    """Images of one material, and what lies beside each."""

    name: str
    key: str  # whose values are the times
    truth: float  # s
    curve: np.ndarray  # the signal that was measured
    fields: list[dict]
    options: dict = field(default_factory=dict)  # of predict
    dtype: str = "<f4"
    slopes: list[float] = field(default_factory=list)  # that headers say
    texts: dict[int, str] = field(default_factory=dict)  # added to a sidecar
    sizes: list[float] = field(default_factory=list)  # of voxels, mm
    clash: str = ""
    volume: bool = False  # one file with lists in its sidecar


def start(rng):
    """One of three protocols, as files or as one file."""
    kind = rng.choice(["MESE", "IR", "VFA"])
    if kind == "MESE":
        truth, times = rng.uniform(0.05, 0.12), np.arange(1, 9) * 0.012
        curve, key = np.exp(-times / truth), "EchoTime"
        own = {"RepetitionTime": 3.0, "FlipAngle": 90, "ScanningSequence": "SE"}
    elif kind == "IR":
        truth, times = rng.uniform(0.6, 1.6), np.array([0.05, 0.2, 0.5, 1, 2, 4, 6])
        curve, key = np.abs(1 - 1.9 * np.exp(-times / truth)), "InversionTime"
        own = {"RepetitionTime": 10.0, "EchoTime": 0.01, "ScanningSequence": "IR"}
    else:
        truth, times = rng.uniform(0.6, 1.6), np.array([2, 4, 8, 14, 22])
        e, a = np.exp(-0.02 / truth), np.deg2rad(times)
        curve, key = np.sin(a) * (1 - e) / (1 - np.cos(a) * e), "FlipAngle"
        own = {"RepetitionTime": 0.02, "EchoTime": 0.003, "ScanningSequence": "GR"}
    fields = [{**SHARED, **own, key: t} for t in times.tolist()]
    if kind == "MESE":
        fields = [{**f, "EchoNumber": n + 1} for n, f in enumerate(fields)]
    count = len(fields)
    return Series(
        kind, key, truth, curve, fields,
        options={"magnitude": True} if kind == "IR" else {},
        slopes=[1.0] * count, sizes=[2.0] * count, volume=bool(rng.random() < 0.3),
    )  # fmt: skip


def mutate(rng, s):
    """Change one thing; returns what was done."""
    return OPERATORS[rng.integers(len(OPERATORS))](rng, s)


def _where(rng, s):
    """One image or all."""
    count = len(s.fields)
    return [int(rng.integers(count))] if rng.random() < 0.5 else list(range(count))


def _scope(at):
    return "one" if len(at) == 1 else "all"


def drop(rng, s):
    key, at = str(rng.choice([s.key, s.key, *s.fields[0]])), _where(rng, s)
    for n in at:
        s.fields[n].pop(key, None)
    return f"drop {key} of {_scope(at)}"


def swap_images(rng, s):
    a, b = rng.choice(len(s.fields), 2, replace=False)
    s.curve[[a, b]] = s.curve[[b, a]]
    return "swap two images"


def swap_values(rng, s):
    a, b = rng.choice(len(s.fields), 2, replace=False)
    x, y = s.fields[a], s.fields[b]
    x[s.key], y[s.key] = y[s.key], x[s.key]
    return f"swap {s.key} of two"


def swap_keys(rng, s):
    keys = [*KEYS, "RepetitionTime", "EchoNumber"]
    one, other = rng.choice(keys, 2, replace=False)
    for n in (at := _where(rng, s)):
        f = s.fields[n]
        pair = {one: f.pop(other, None), other: f.pop(one, None)}
        f.update({k: v for k, v in pair.items() if v is not None})
    return f"swap {one} and {other} of {_scope(at)}"


def scale(rng, s):
    key = str(rng.choice([s.key, s.key, "RepetitionTime", "FlipAngle", "EchoTime"]))
    factor = float(rng.choice([1e-3, 0.1, 0.5, 2, 10, 1000]))
    for n in (at := _where(rng, s)):
        if key in s.fields[n]:
            s.fields[n][key] *= factor
    return f"scale {key} of {_scope(at)} by {factor:g}"


def offset(rng, s):
    """A constant added to all times, or the first echo's number left out."""
    step = float(rng.choice([-1, 1, 3])) * (s.fields[1][s.key] - s.fields[0][s.key])
    for f in s.fields:
        f[s.key] += step
    return f"add to {s.key} of all"


def reorder(rng, s):
    how = str(rng.choice(["reverse", "shuffle", "shift"]))
    values = [f[s.key] for f in s.fields]
    if how == "shuffle":
        values = [values[n] for n in rng.permutation(len(values))]
    else:
        values = values[::-1] if how == "reverse" else values[1:] + values[:1]
    for f, value in zip(s.fields, values, strict=True):
        f[s.key] = value
    return f"{how} {s.key}"


def repeat(rng, s):
    """A key twice in the text of a sidecar."""
    n = int(rng.integers(len(s.fields)))
    key = str(rng.choice([s.key, *s.fields[n]]))
    value = s.fields[n][key]
    other = bool(rng.random() < 0.7)
    if s.volume or (other and isinstance(value, int | float)):
        value = value * 2 + 1 if isinstance(value, int | float) else "another"
        s.clash = f"{key} twice"
    s.texts[n] = f', "{key}": {json.dumps(value)}'
    return f"repeat {key} {'otherwise' if s.clash else 'alike'}"


def retype(rng, s):
    key = str(rng.choice([s.key, s.key, "RepetitionTime"]))
    how = str(rng.choice(["text", "unit", "list", "bool", "null", "nan", "negative"]))
    for n in (at := _where(rng, s)):
        value = s.fields[n][key]
        s.fields[n][key] = {
            "text": str(value),
            "unit": f"{value} s",
            "list": [value],
            "bool": True,
            "null": None,
            "nan": float("nan"),
            "negative": -value,
        }[how]
    return f"{how} in place of {key} of {_scope(at)}"


def store(rng, s):
    s.dtype = str(rng.choice(["<i2", ">f4", "<f8", "<u2", "<u1", "<c8", ">i4"]))
    if s.dtype == "<u1":  # 1000 does not fit: saturated, not scaled
        s.clash = "saturated" if (1000 * s.curve).max() > 255 else ""
        s.curve = np.minimum(s.curve, 0.255)
    if s.dtype == "<c8":
        s.clash = "complex"
    return f"store as {s.dtype}"


def slope(rng, s):
    factor = float(rng.choice([0.1, 0.5, 2, 10]))
    for n in (at := _where(rng, s) if not s.volume else [0]):
        s.slopes[n] = factor
    if s.volume or len(at) > 1:
        s.slopes = [factor] * len(s.slopes)
    return f"slope {factor:g} of {'all' if len(set(s.slopes)) == 1 else 'one'}"


def voxels(rng, s):
    factor = float(rng.choice([1e-3, 0.5, 3, 1000]))
    for n in (at := _where(rng, s)):
        s.sizes[n] *= factor
    if len(at) == 1 and not s.volume:
        s.clash = "another grid"
    return f"scale pixdim of {_scope(at)} by {factor:g}"


OPERATORS = [
    drop, drop, swap_images, swap_values, swap_keys, scale, scale, scale, reorder,
    repeat, retype, retype, store, slope, voxels,
]  # fmt: skip


def _number(value):
    return type(value) in (int, float) and np.isfinite(value)


def seen(s):
    """As a person would read it: the one field that differs is the axis."""
    found = {}
    for key, (model, unit) in KEYS.items():
        values = [f.get(key) for f in s.fields]
        known = [v for v in values if v is not None]
        odd = not all(map(_number, known))
        if odd or len(set(map(str, known))) > 1 or (key == s.key and not known):
            missing = odd or len(known) < len(values)
            times = None if missing else np.array(values, float) * unit
            found[key] = (model, times)
    curve = s.curve * np.array(s.slopes)
    trs = [f.get("RepetitionTime") for f in s.fields]
    tr, clash = None, s.clash
    if all(map(_number, trs)):
        tr = float(trs[0])
        if max(trs) - min(trs) > 0.01 * max(trs):
            clash = clash or "TR differs"
    elif any(t is not None and not _number(t) for t in trs):
        clash = clash or "TR is no number"
    if len(found) != 1:
        return Seen("", None, curve, tr), clash
    ((key, (model, times)),) = found.items()
    numbers = [f.get("EchoNumber") for f in s.fields]
    if times is not None and all(map(_number, numbers)) and key == "EchoTime":
        if np.argsort(times).tolist() != np.argsort(numbers).tolist():
            clash = clash or "EchoNumber"
    if key != s.key:
        clash = clash or f"{key} of a {s.name}"
    return Seen(model, times, curve, tr), clash


def write(s, folder, rng):
    """The files; returns what to name with --input."""
    shape = np.zeros(SIZE)
    shape[2:10, 3:14] = 1000
    shape *= 1 + 0.002 * rng.normal(size=SIZE)
    images = shape * s.curve[:, None, None]
    images = images * (1 + 0.001 * rng.normal(size=images.shape))
    if s.volume:
        keys = {k: None for f in s.fields for k in f}
        lists = {k: [f.get(k) for f in s.fields] for k in keys}
        same = {k: v[0] for k, v in lists.items() if all(x == v[0] for x in v)}
        path = folder / "scan.nii"
        _put(path, np.moveaxis(images, 0, -1)[:, :, None], s, 0)
        text = json.dumps({**lists, **same})[:-1] + "".join(s.texts.values()) + "}"
        path.with_suffix(".json").write_text(text)
        return path
    for n, image in enumerate(images):
        path = folder / f"scan_{n}.nii"
        _put(path, image[..., None], s, n)
        text = json.dumps(s.fields[n])[:-1] + s.texts.get(n, "") + "}"
        path.with_suffix(".json").write_text(text)
    return folder


def _put(path, data, s, n):
    affine = np.diag([s.sizes[n]] * 2 + [3.0, 1.0])
    kind = np.dtype(s.dtype)
    data = data.round() if kind.kind in "iu" else data
    if kind.kind in "iu":
        data = np.clip(data, np.iinfo(kind).min, np.iinfo(kind).max)
    image = nibabel.Nifti1Image(data.astype(kind.newbyteorder("=")), affine)
    if kind.byteorder == ">":
        image = nibabel.Nifti1Image(
            data.astype(kind), affine, nibabel.Nifti1Header(endianness=">")
        )
        image.set_data_dtype(kind)
    nibabel.save(image, path)
    if s.slopes[n] != 1:  # the header alone: what is stored stays
        raw = bytearray(path.read_bytes())
        raw[112:116] = np.array(s.slopes[n], f"{_order(kind)}f4").tobytes()
        raw[116:120] = np.zeros(1, f"{_order(kind)}f4").tobytes()
        path.write_bytes(raw)


def _order(kind):
    return ">" if kind.byteorder == ">" else "<"
