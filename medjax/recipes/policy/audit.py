"""What an audit trail says of each completion: a line of JSON, and a header."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int, Shaped

from medjax import __version__
from medjax.data.prompting.chat import prompt_text
from medjax.recipes.policy.identity import identity
from medjax.recipes.policy.setup import Exploration, Setup
from medjax.recipes.sections import plain
from medjax.rl.schedules import ThresholdSchedule
from medjax.rl.text import READERS
from medjax.runtime.audit import Audit
from medjax.systems.policy.trace import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SWITCH = ("off", "on")
FILLS = "the row fills the batch"
BROKEN = "the step was not finite"
UNSCORED = "no reward of its weight could score it"
LIKE = "all of its group earned the same: "  # and whether all were right
SAME = ("data", "ends", "prompt", "tokenizer")  # parts of an identity that replay needs
_NUMBERS = ("tau", "recitation_ramp")  # of a step, which say what a reward was


class Teller(NamedTuple):
    """How tokens and classes are told."""

    tokenizer: "PreTrainedTokenizerBase"
    tail: str  # of every question, as it decodes: the style's suffix, the turn's end
    classes: tuple[str, ...]  # by index; () where answers are boxes


def wants_audit(audit: str) -> bool:
    """Whether a run writes an audit trail.

    Args:
        audit: The option, "on" or "off".

    Raises:
        ValueError: It is another word.
    """
    if audit not in SWITCH:
        raise ValueError(f"train.grpo.audit={audit!r}: expected on or off")
    return audit == "on"


def stage_options(options: Exploration, own: NamedTuple) -> dict[str, Any]:
    """The options of a stage that bear on numbers, as a JSON document.

    A resume may have more patience, other limits of the watchdogs, and be audited or
    no longer.

    Args:
        options: How it explores and learns.
        own: The system's own options.
    """
    document = plain(options)
    for name in ("patience", "watchdogs", "audit"):
        del document[name]
    if document["loss"]["importance_cap"] is None:  # what older runs do not name
        del document["loss"]["importance_cap"]
    return document | plain(own)


def make_audit(
    name: str,
    setup: Setup,
    options: Mapping[str, Any],
    weights: Mapping[str, float],
    *,
    room: int,
    schedule: ThresholdSchedule | None,
    classes: Sequence[str],
) -> Audit:
    """The trail of a stage of GRPO.

    Args:
        name: Of the stage.
        setup: What all stages of the run have in common.
        options: Those of the stage that bear on numbers, as its identity has them.
        weights: Of every reward, those in Python too.
        room: Tokens that a completion may have, 1 or more.
        schedule: The numbers of a threshold; None where there is none.
        classes: Names by index where answers are classes; else ().
    """
    about = identity(setup, {})
    header = {
        "readers": READERS,
        "versions": {"medjax": __version__, "jax": jax.__version__},
        "stage": name,
        "seed": setup.seed,
        **{part: about[part] for part in SAME},
        "rewards": {"weights": dict(weights), **plain(options)},
        "schedule": None if schedule is None else plain(schedule),
        "classes": list(classes),
        "tokens": room,
    }
    teller = make_teller(setup, classes)
    return Audit(header, partial(audit_lines, teller))


def make_teller(setup: Setup, classes: Sequence[str]) -> Teller:
    """How a run's tokens and classes are told.

    Args:
        setup: What all stages of the run have in common.
        classes: Names by index where answers are classes; else ().
    """
    tokenizer = setup.policy.tokenizer
    _, (end,) = prompt_text([""], images=1, style=setup.encoding.style)
    ids = tokenizer.encode(end, add_special_tokens=False)
    tail = tokenizer.decode(ids, skip_special_tokens=True)
    return Teller(tokenizer, tail, tuple(classes))


def audit_lines(
    teller: Teller, trace: Trace, metrics: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The lines of a step: one a completion of the rows that this process has.

    Rows are shared among processes in their order, each row being one prompt.

    Args:
        teller: How tokens and classes are told.
        trace: Of all rows, on the host.
        metrics: Of the step, `nonfinite` and what of `tau` and `recitation_ramp` there
            is.

    Yields:
        What `docs/audit.md` says of a line, but for the step. Floats have the fewest
        digits that tell them apart in float32; one that is not finite is its name.
    """
    prompts, group = trace.mask.shape[:2]
    mine = np.array_split(np.arange(prompts), jax.process_count())
    rows = mine[jax.process_index()]
    if not len(rows):
        return
    trace = jax.tree.map(lambda x: np.asarray(x)[rows], trace)
    texts = _texts(teller, trace.tokens, trace.mask)
    asked = _texts(teller, trace.question[:, None], trace.question_mask[:, None])
    targets = tell_targets(teller.classes, trace.batch)
    columns = _columns(teller, trace)
    fates = list(_fates(trace, broken=bool(metrics["nonfinite"])))
    numbers = {k: _number(np.asarray(metrics[k])) for k in _NUMBERS if k in metrics}
    ids, valid = trace.batch["sample_id"].tolist(), trace.batch["valid"].tolist()
    for n, row in enumerate(rows.tolist()):
        query = asked[n].removesuffix(teller.tail)
        for place in range(group):
            at = n * group + place
            kept, why = fates[at]
            yield {
                "row": row,
                "completion": place,
                "sample": ids[n],
                "valid": valid[n],
                "query": query,
                "text": texts[at],
                "tokens": trace.tokens[n, place][trace.mask[n, place]].tolist(),
                "target": targets[n],
                **{name: values[at] for name, values in columns.items()},
                **numbers,
                "kept": kept,
                "why": why,
            }


def tell_targets(classes: Sequence[str], batch: Mapping[str, np.ndarray]) -> list[Any]:
    """The right answer of each row, as JSON can hold it.

    Args:
        classes: Names by index where answers are classes.
        batch: `boxes` [B, 4] or [B, 8, 4] with `box_valid`, in pixels of the picture as
            shown; or `label`, indices [B] or marks [B, C].

    Returns:
        A box, a list of boxes, the name of a class or a list of names.
    """
    if "label" in batch:
        return _named(classes, batch["label"])
    boxes = _floats(batch["boxes"])
    return _listed(boxes, batch["box_valid"]) if "box_valid" in batch else boxes


def _columns(teller: Teller, trace: Trace) -> dict[str, list[Any]]:
    """What a line says that is an array: a value for each of N completions."""
    read = {k: x.reshape(-1, *x.shape[2:]) for k, x in trace.read.items()}
    parsed = trace.parsed.ravel().tolist()
    found: dict[str, list[Any]] = {"parsed": parsed, "hit": trace.hits.ravel().tolist()}
    if "box_valid" in read:
        found["boxes"] = _listed(_floats(read.pop("boxes")), read.pop("box_valid"))
    elif "box" in read:
        found["box"] = _floats(read.pop("box"))
    for name, told in (("label", "label"), ("shown", "labels")):
        if name in read:
            found[told] = _named(teller.classes, read.pop(name))
    for name in found.keys() & {"box", "boxes", "label", "labels"}:
        values = zip(found[name], parsed, strict=True)
        found[name] = [value if ok else None for value, ok in values]
    found |= {name: _plain(x) for name, x in read.items()}
    values = {}
    for name, reward in trace.rewards.items():
        values[name] = _floats(reward.ravel())
        if name in trace.scored:
            pairs = zip(values[name], trace.scored[name].ravel().tolist(), strict=True)
            values[name] = [value if ok else None for value, ok in pairs]
    names, rows = list(values), zip(*values.values(), strict=True)
    found["rewards"] = [dict(zip(names, row, strict=True)) for row in rows]
    pairs = zip(_floats(trace.total.ravel()), trace.counted.ravel(), strict=True)
    found["reward"] = [value if ok else None for value, ok in pairs]
    found["advantage"] = _floats(trace.advantages.ravel())
    return found


def _fates(trace: Trace, *, broken: bool) -> Iterator[tuple[bool, str]]:
    """Of each completion, whether its advantage moved the policy, and why it did not.

    A group whose advantages are all 0 had no signal; it is named as by `group_signal`.
    """
    valid = trace.batch["valid"].tolist()
    for n, counted in enumerate(trace.counted):
        hits = trace.hits[n][counted]
        why = ""
        if not valid[n]:
            why = FILLS
        elif broken:
            why = BROKEN
        elif not trace.advantages[n].any():
            why = LIKE + _kind(hits, trace.parsed[n][counted])
        for ok in counted.tolist():
            told = why if ok or why in (FILLS, BROKEN) else UNSCORED
            yield not told, told


def _kind(hits: Bool[np.ndarray, "N"], parsed: Bool[np.ndarray, "N"]) -> str:
    if not parsed.any():
        return "unparsable"
    if not hits.any():
        return "all wrong"
    return "all right" if hits.all() else "tied"


def _texts(
    teller: Teller, tokens: Int[np.ndarray, "B G T"], mask: Bool[np.ndarray, "B G T"]
) -> list[str]:
    """Texts without special tokens; equal completions are decoded once."""
    length = tokens.shape[-1]
    pairs = zip(tokens.reshape(-1, length), mask.reshape(-1, length), strict=True)
    ids = [tuple(row[here].tolist()) for row, here in pairs]
    some = list(dict.fromkeys(ids))
    texts = teller.tokenizer.batch_decode(some, skip_special_tokens=True)
    known = dict(zip(some, texts, strict=True))
    return [known[row] for row in ids]


def _named(classes: Sequence[str], label: np.ndarray) -> list[Any]:
    """Names of indices [N], None below 0; or lists of names of marks [N, C]."""
    if label.dtype != bool:
        return [classes[n] if n >= 0 else None for n in label.tolist()]
    return [[classes[n] for n in np.flatnonzero(row).tolist()] for row in label]


def _listed(boxes: Sequence[Any], valid: Bool[np.ndarray, "N K"]) -> list[Any]:
    """The boxes of each set that count."""
    return [
        [box for box, ok in zip(row, marks, strict=True) if ok]
        for row, marks in zip(boxes, valid.tolist(), strict=True)
    ]


def _plain(values: Shaped[np.ndarray, "..."]) -> list[Any]:
    inexact = np.issubdtype(values.dtype, np.inexact)
    return _floats(values) if inexact else values.tolist()


def _floats(values: Shaped[np.ndarray, "..."]) -> list[Any]:
    """Floats in their shape; each distinct one is written down once."""
    values = np.asarray(values, np.float32)
    some, places = np.unique(values, return_inverse=True)
    short = np.empty(len(some), object)
    short[:] = [_number(x) for x in some]
    return short[places.reshape(values.shape)].tolist()


def _number(value: Any) -> float | str:  # noqa: ANN401
    """The shortest decimal of a float32; a name where JSON has no number."""
    value = np.float32(value)
    return float(str(value)) if np.isfinite(value) else str(value)
