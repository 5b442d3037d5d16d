"""Doubts about whose pictures they are: lesions of two kinds, groups that are none."""

from collections.abc import Sequence

from medjax.data.audit.records import Sample
from medjax.data.batches import Parts
from medjax.data.lists.groups import groups_by_name
from medjax.recipes.policy.findings import DOUBT, NOTE, Finding

_LESIONS = ("lesion", "lesionid", "lesion_id")
_OWN = "volume"  # what groups the slices of a volume, named by no list
_FEW = 4  # values of a column by which the parts are hardly more than those values
_LINES = 10  # a value of it, at least, or a small list would be doubted for its size


def group_findings(parts: Parts) -> list[Finding]:
    """What the columns that group say against the labels, or against themselves.

    Args:
        parts: Labels are looked at where each picture has one class: a lesion has one
            diagnosis then, while a patient may have several lesions.
    """
    samples = parts.samples if parts.single else ()
    columns = dict.fromkeys(column for s in parts.samples for column in s.groups)
    lesions = [c for c in columns if c.casefold() in _LESIONS]
    others = [c for c in columns if c not in lesions and groups_by_name(c)]
    chosen = [c for c in columns if not groups_by_name(c) and c != _OWN]
    return [
        Finding("lesions with several labels", DOUBT, _several(samples, lesions)),
        Finding(
            "patients or studies with several labels, which may be right",
            NOTE,
            _several(samples, others),
        ),
        Finding(
            "columns of data.group with few values",
            DOUBT,
            _few(parts.samples, chosen),
            spoils=False,
        ),
    ]


def _several(samples: Sequence[Sample], columns: Sequence[str]) -> tuple[str, ...]:
    """Values of the columns whose rows have several labels, with a row of each."""
    found: dict[tuple[str, str], dict[tuple[str, ...], str]] = {}
    for sample in samples:
        for column in columns:
            if column in sample.groups:
                rows = found.setdefault((column, sample.groups[column]), {})
                rows.setdefault(sample.labels, sample.origin)
    return tuple(
        f"{column} {value!r}: "
        + ", ".join(f"{origin} ({'|'.join(labels)})" for labels, origin in rows.items())
        for (column, value), rows in found.items()
        if len(rows) > 1
    )


def _few(samples: Sequence[Sample], columns: Sequence[str]) -> tuple[str, ...]:
    told = []
    for column in columns:
        values = [s.groups[column] for s in samples if column in s.groups]
        known = list(dict.fromkeys(values))
        if len(known) <= _FEW and len(values) >= _LINES * len(known):
            told.append(
                f"{column}: {len(known)} values ({', '.join(map(repr, known))}) on "
                f"{len(values)} rows; all rows of a value lie in one part. That is "
                "right of a hospital or scanner, and wrong of something about patients "
                f"(sex, age): take {column} out of data.group"
            )
    return tuple(told)
