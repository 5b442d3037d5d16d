"""Numbers as a sentence has them: rounded, and never to what they are not."""

from collections.abc import Sequence

_TIMES = ("never", "once", "twice", "three times", "four times", "five times")


def number(value: float) -> str:
    """Two decimals, or three where the third says something: 0.45, 0.475.

    Args:
        value: Such as a threshold.
    """
    text = f"{value:.3f}"
    return text.removesuffix("0")


def compare(value: float, bound: float, sign: str) -> str:
    """`0.67 < 0.80`, with as many decimals as show that the two differ, at most 6.

    Args:
        value: What was found.
        bound: What it is compared with.
        sign: Stands between them.
    """
    for digits in range(2, 7):
        texts = f"{value:.{digits}f}", f"{bound:.{digits}f}"
        if texts[0] != texts[1]:
            break
    return f"{texts[0]} {sign} {texts[1]}"


def changed(before: float, after: float) -> str:
    """`fell from 5.1 to 0.51`, `rose from`, or `stayed at` where three digits agree.

    Args:
        before: The first number.
        after: The second one.
    """
    first, last = f"{before:.3g}", f"{after:.3g}"
    if first == last:
        return f"stayed at {last}"
    return f"{'rose' if after > before else 'fell'} from {first} to {last}"


def share(part: float, whole: float) -> str:
    """Whole percent; `< 1 %` and `> 99 %` where rounding would say none or all.

    Args:
        part: 0 to `whole`.
        whole: Above 0.
    """
    percent = 100 * part / whole
    if 0 < percent < 0.5:
        return "< 1 %"
    if 99.5 <= percent < 100:
        return "> 99 %"
    return f"{percent:.0f} %"


def joined(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`.

    Args:
        parts: At least one.
    """
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def times(count: int) -> str:
    """`once`, `twice`, `three times`, and from six on in figures.

    Args:
        count: 0 or more.
    """
    return _TIMES[count] if count < len(_TIMES) else f"{count} times"
