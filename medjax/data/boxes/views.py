"""Views: pictures as they are shown, with what may be asked about them.

Every source of grounding data (the atlas, a user's files, generated shapes) is a
`Views`: a count and a pure function of (index, generator). Whether a view differs from
draw to draw, as in the `moved` split, is the source's business.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from medjax.data.orders import drawn_places


class View(NamedTuple):
    """Images shown together, and S structures that can be asked for in the last one."""

    images: tuple[UInt8[np.ndarray, "h w 3"], ...]
    names: tuple[str, ...]
    # Of each structure in turn: pixels of the last image, edges (x1, y1, x2, y2).
    boxes: Float[np.ndarray, "N 4"]
    questions: tuple[tuple[str, ...], ...]  # phrasings, S times
    origin: str  # what an error or a report calls it: "axial 93", "scan.png, line 3"
    plane: str
    position: int  # index of the slice across its plane; 0 for a single picture
    columns: tuple[Mapping[str, Any], ...] = ()  # more about each, for Python rewards
    counts: tuple[int, ...] | None = None  # boxes of each structure; None: one each
    # what supervised answers say of each before its box; (): its name
    reasons: tuple[str, ...] = ()


class Views(NamedTuple):
    """A source of views, and what a run must know about all of them beforehand."""

    count: int
    view: Callable[[int, np.random.Generator], View]  # index < count
    names: tuple[str, ...]  # every structure that can occur
    texts: tuple[str, ...]  # every question
    sizes: tuple[tuple[int, int], ...]  # every (height, width) of an image
    slots: int = 1  # most images a view has
    most: int = 1  # most boxes a structure has in a view
    # The view with black images of the same sizes, which need not be read. Only where
    # a view is the same at every draw.
    outline: Callable[[int], View] | None = None
    # all that supervised answers may say before a box; (): the names
    reasons: tuple[str, ...] = ()


def drawn_views(views: Views, *, seed: int, draws: int) -> Iterator[View]:
    """Every view as `draws` draws show it: what a training part can be known by.

    A view that is the same at every draw is taken once, and its images are not read.

    Args:
        views: Any source.
        seed: Decides how views are moved, together with the view and the draw.
        draws: How often each view is looked at, 1 or more.
    """
    for index in range(views.count):
        if views.outline:
            yield views.outline(index)
            continue
        for draw in range(draws):
            yield views.view(index, np.random.default_rng((seed, index, draw)))


def labelled_views(views: Views, count: int, *, seed: int) -> Views:
    """Some of the views: what a run has that few pictures are labelled for.

    They stay in their order, and are moved at every draw as before.

    Args:
        views: Any source.
        count: How many are taken, 1 or more.
        seed: Decides which.

    Raises:
        ValueError: There are fewer.
    """
    chosen = drawn_places(views.count, count, seed=seed).tolist()
    outline = views.outline
    return views._replace(
        count=count,
        view=lambda n, rng: views.view(chosen[n], rng),
        outline=None if outline is None else lambda n: outline(chosen[n]),
    )


def box_sets(view: View) -> tuple[Float[np.ndarray, "k 4"], ...]:
    """The boxes of each structure of a view, k from 0 on, in the view's order.

    Args:
        view: Its boxes belong to its structures in turn.

    Raises:
        ValueError: There are other numbers of boxes than its structures have.
    """
    counts = (1,) * len(view.names) if view.counts is None else view.counts
    if len(counts) != len(view.names) or sum(counts) != len(view.boxes):
        raise ValueError(
            f"{view.origin}: {len(view.boxes)} boxes of {len(view.names)} structures, "
            f"which have {counts}; expected one number for each, in all as many"
        )
    ends = np.cumsum(counts)
    return tuple(
        view.boxes[end - count : end] for count, end in zip(counts, ends, strict=True)
    )


def loosen_box(
    box: Float[np.ndarray, "4"],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    factors: tuple[float, float],
) -> Float[np.ndarray, "4"]:
    """A box `factors` times as wide and high that still holds `box`, cut at the image.

    Both factors are drawn apart, and the centre is moved evenly within what room they
    leave: what a hurried reader draws.

    Args:
        box: Its edges (x1, y1, x2, y2) in pixels, inside the image.
        size: (height, width) of the image, in the same pixels.
        rng: Gives four numbers: two factors, then two places.
        factors: The lowest and the highest factor, 1 or more; 1 and 1 leave the box as
            it is.
    """
    corner, extent = box[:2], box[2:] - box[:2]
    larger = extent * rng.uniform(*factors, 2)
    low = corner - (larger - extent) * rng.uniform(0, 1, 2)
    high = low + larger
    limit = np.array(size[::-1], np.float64)
    return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)])
