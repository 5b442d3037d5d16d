"""The first difference between what two runs have written.

Compared bit by bit: metrics, scores, answers, tables, maps and checkpoints' arrays.
No time stands in any of these files (seconds a step, throughput and ETA are on the
progress line alone), so no column of them is left out. Of pictures and pages only the
names are compared, and nothing of `manifest.json` (command, time, commit) and of
TensorBoard's files, which repeat the metrics with times.
"""

import json
import pathlib
import re
import warnings
from fnmatch import fnmatch

import numpy as np

LEFT_OUT = ("manifest.json", "tensorboard")
# In JSON: the version that wrote a map, digests of files that name it, and what older
# summaries do not tell.
VERSIONED = ("Version", "files", "model", "model_reason")
# Metrics, and rows and maps of methods, that older bases do not have.
ADDED = re.compile(
    r"step \d+, idle|(metrics\.|\w+\.)*fault_\w+|(row \d+, |map: |sigma: )unrolled, "
    r"posterior.*|(step \d+, |(metrics\.|\w+\.)*)sampler_gap(_max)?"
)
# Of a reward without a threshold HEAD holds an IoU of 0.5 for right, base any at all.
RIGHT = (
    r"(step \d+, |.*\.|)(hit_rate|groups_(all_right|all_wrong|tied|no_hit|every_hit))"
)
# Statistics of an order of voxels, in which one rounding exchanges two.
RANKED = ("spearman", "ause")
# Metrics of an older base by the names that they have now.
RENAMED = re.compile(r"(metrics\.|step \d+, |^\w+\.)clip_(low|high)$")


def first_difference(base, head, *, tolerance=0.0, more=(), counted=""):
    """One line about the first difference of two folders or files; None without one.

    `more` are patterns of files that HEAD alone may have, whole paths in the folder;
    `counted` is an expression of the numbers that HEAD counts otherwise.

    Files are taken in the order in which base wrote them, rows in their own. With a
    tolerance numbers agree to that much of the larger of them and 1, and tables, which
    show rounded numbers, are not compared.
    """
    base, head = pathlib.Path(base), pathlib.Path(head)
    if base.is_file():
        return differing_file(base, head, base.name, tolerance, counted)
    left, right = artefacts(base), artefacts(head)
    new = {n for n in right.keys() - left.keys() if any(fnmatch(n, x) for x in more)}
    right = {name: path for name, path in right.items() if name not in new}
    if left.keys() != right.keys():
        missing, more = left.keys() - right.keys(), right.keys() - left.keys()
        return f"files: {listed(missing)} only in base, {listed(more)} only in HEAD"
    for name in sorted(left, key=lambda name: left[name].stat().st_mtime_ns):
        difference = differing_file(left[name], right[name], name, tolerance, counted)
        if difference:
            return difference
    return None


def artefacts(folder):
    """Name -> path; a checkpoint's step is one artefact, a folder."""
    paths = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if set(LEFT_OUT) & set(name.parts):
            continue
        steps = "checkpoints" in name.parent.parts
        if path.is_file() and not steps:
            paths[name.as_posix()] = path
        elif path.is_dir() and name.parent.name == "checkpoints":
            paths[name.as_posix()] = path
    return paths


# Of a map's voxels: where the fit is ill-conditioned, rounding is not small any more.
ILL = 0.01


def listed(names):
    return ", ".join(sorted(names)[:5]) + " ..." * (len(names) > 5) or "none"


def differing_file(base, head, name, tolerance, counted=""):
    left, right = as_now(entries(base)), entries(head)
    if tolerance and (base.suffix == ".txt" or base.name == "summary.json"):
        return None  # a summary is of the voxels with signal, of which HEAD leaves some
    if base.suffix == ".json" and "predict" in base.parts:  # HEAD may say more
        right = {name: right[name] for name in left if name in right}
    right = {
        place: value
        for place, value in right.items()
        if place in left or not ADDED.fullmatch(place)
    }
    if list(left) != list(right):
        missing, more = left.keys() - right.keys(), right.keys() - left.keys()
        if not missing | more:
            return f"{name}: the same names in another order"
        return f"{name}: {listed(missing)} only in base, {listed(more)} only in HEAD"
    for place, value in left.items():
        if counted and re.fullmatch(counted, place):
            continue
        limit = 1e-2 if tolerance and place.endswith(RANKED) else tolerance
        if not same(value, right[place], limit):
            return f"{name}, {place}: {contrast(value, right[place], limit)}"
    return None


def as_now(entries):
    """An older base's entries by today's names, its empty slots of the log as 0."""
    now = {}
    for place, value in entries.items():
        steps = entries.get(place.rpartition(".")[0] + ".step")
        if ".log." in place and isinstance(steps, np.ndarray):
            value = np.where((steps < 0) & np.isnan(value), value.dtype.type(0), value)
        now[RENAMED.sub(r"\1clipped_\2", place)] = value
    return now


def entries(path):
    """`step 3, loss` -> value of each number, text and array in an artefact."""
    if path.is_dir():
        return checkpoint(path)
    if path.suffix == ".jsonl":
        return dict(flat_rows(path.read_text().splitlines()))
    if path.suffix == ".json":
        return dict(flat(json.loads(path.read_text())))
    if path.suffix in (".txt", ".csv", ".tsv"):
        lines = path.read_text().splitlines()
        return {f"line {n}": line for n, line in enumerate(lines, 1)}
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.name.endswith(".nii.gz"):
        return nifti(path)
    return {}


def flat_rows(lines):
    seen = {}
    for number, line in enumerate(lines, 1):
        row = json.loads(line)
        place = f"step {row['step']}" if "step" in row else f"row {number}"
        if "method" in row:  # of a table, in which HEAD may have more of them
            seen[row["method"]] = seen.get(row["method"], 0) + 1
            place = f"row {seen[row['method']]}, {row['method']}"
        for name, value in flat(row):
            yield f"{place}, {name}", value


def flat(value, name=""):
    """Dotted name -> value; lists count their members, empty ones are values."""
    if not isinstance(value, dict | list) or not value:
        yield name, value
        return
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in members:
        if key not in VERSIONED:
            yield from flat(member, f"{name}.{key}" if name else str(key))


def nifti(path):
    import nibabel

    image = nibabel.load(path)
    return {"voxels": np.asanyarray(image.dataobj), "affine": image.affine}


def checkpoint(folder):
    import orbax.checkpoint as ocp

    with warnings.catch_warnings(), ocp.PyTreeCheckpointer() as reader:
        warnings.simplefilter(
            "ignore"
        )  # orbax: arrays go to the devices they came from
        arrays = reader.restore((folder / "state").absolute())
    return {name: np.asarray(arrays[name]) for name in sorted(arrays)}


def same(base, head, tolerance):
    if isinstance(base, np.ndarray):
        if (base.dtype, base.shape) != (head.dtype, head.shape):
            return False
        if tolerance and base.dtype.kind in "fc":
            return apart(base, head, tolerance).mean() <= ILL * (base.size > 1000)
        return base.tobytes() == head.tobytes()
    if tolerance and isinstance(base, float) and isinstance(head, float):
        return not apart(np.array(base), np.array(head), tolerance).any()
    return json.dumps(base) == json.dumps(head)  # 0.0 is not -0.0, NaN is NaN


def apart(base, head, tolerance):
    """Where two arrays are further apart than the tolerance, or one is NaN."""
    equal = (base == head) | (np.isnan(base) & np.isnan(head))
    scale = np.maximum(1, np.maximum(np.abs(base), np.abs(head)))
    with np.errstate(invalid="ignore"):
        near = np.abs(head - base) <= tolerance * scale
    return ~(equal | (near & np.isfinite(scale)))


def contrast(base, head, tolerance):
    if not isinstance(base, np.ndarray):
        return f"{json.dumps(base)} in base, {json.dumps(head)} in HEAD"
    if (base.dtype, base.shape) != (head.dtype, head.shape):
        return (
            f"{base.dtype}{list(base.shape)} in base, "
            f"{head.dtype}{list(head.shape)} in HEAD"
        )
    numbers = base.dtype.kind in "fc"
    where = np.argwhere(apart(base, head, tolerance) if numbers else base != head)
    if not len(where):
        return "equal values of other bits"
    first = tuple(where[0].tolist())
    return (
        f"{len(where)} of {base.size} values differ, the first at {list(first)}: "
        f"{base[first]} in base, {head[first]} in HEAD"
    )
