"""A network against joint TV on one scan: which predicts held-out lines better."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.data.scans.formats import Scan
from medjax.mri.held_out import Held, held_out_misfit, hold_out_lines
from medjax.recipes.qmri.joint_tv import tv_images
from medjax.recipes.qmri.slabs import make_slab, read_slice
from medjax.recipes.qmri.trusted import Trusting, line_mask
from medjax.systems.puq.network import Estimator, reconstruct
from medjax.systems.puq.reconstruction import slice_keys
from medjax.types import Key, Params, QmriBatch

COMPARED = 3  # slices, spread over those with signal

# A slab that is ready, and a key -> misfits of the network and of joint TV, [B] each.
Misfits = Callable[[QmriBatch, Key], tuple[Float[Array, "B"], Float[Array, "B"]]]


class Contest(NamedTuple):
    """What held-out lines say of two reconstructions."""

    network: float  # root of the mean |residual|^2 of held-out samples, unit of k-space
    joint_tv: float
    slices: tuple[int, ...]  # that were looked at

    @property
    def better(self) -> str:
        """Which is used: the network, unless joint TV misses the lines by less."""
        return "joint TV" if self.joint_tv < self.network else "network"

    @property
    def line(self) -> str:
        """It in words, for a person."""
        return (
            f"lines held out of slices {', '.join(map(str, self.slices))} are missed "
            f"by {self.network:.4g} by the network and {self.joint_tv:.4g} by joint TV:"
            f" {self.better} is used"
        )


def make_misfits(
    estimator: Estimator,
    params: Params,
    *,
    basis: Float[np.ndarray, "E K"],
    how: Trusting,
) -> Misfits:
    """A compiled function that makes both of the same lines and predicts the others.

    Args:
        estimator: The network.
        params: Its trained parameters.
        basis: Of joint TV's subspace.
        how: Of joint TV.
    """

    @jax.jit
    def misfits(batch: QmriBatch, key: Key) -> tuple[Array, Array]:
        share, center = how.search.share, how.search.center

        def draw(key: Key, mask: Array) -> Held:  # as `joint_tv_images` draws
            found = hold_out_lines(mask[None], key, share=share, center=center)
            return jax.tree.map(lambda x: x[0], found)

        held = jax.vmap(draw)(slice_keys(key, batch.sample_id), batch.mask)
        seen = jnp.where(held.kept[:, :, None], batch.kspace, 0)
        fewer = batch._replace(kspace=seen, mask=held.kept)
        network = params["network"]
        images, _ = reconstruct(estimator, network, fewer, None, training=False)
        scales = jnp.asarray(how.scales, jnp.float32)
        # Its own misfit is that of the same lines: the draw follows the key.
        make = partial(tv_images, basis=jnp.asarray(basis), scales=scales)
        search = how.search._replace(draws=1, part=False)
        regularised = make(batch, key, search=search)
        samples = (batch.kspace, batch.sens, held.held)
        return held_out_misfit(images, *samples), regularised.misfit

    return misfits


def hold_contest(
    scan: Scan, misfits: Misfits, key: Key, *, positive: int | None
) -> Contest:
    """Hold lines of a few slices out, and see which reconstruction predicts them.

    Args:
        scan: Up to three of its slices with signal are read.
        misfits: Of `make_misfits`.
        key: One typed key; which lines are held out.
        positive: Of `read_slice`.

    Raises:
        ValueError: A slice cannot be made ready.
    """
    places = (np.arange(COMPARED) + 0.5) * scan.num_slices / COMPARED
    spread = np.unique(places.astype(int)).tolist()
    order = [*spread, *(z for z in range(scan.num_slices) if z not in spread)]
    ready: dict[int, Any] = {}
    for z in order:
        one, _ = read_slice(scan, z, positive=positive)
        if not one.empty:
            ready[z] = one
        if len(ready) == len(spread):
            break
    batch = make_slab(ready, len(ready))
    batch = batch._replace(mask=line_mask(np.asarray(batch.mask)))
    network, joint = jax.device_get(misfits(batch, key))
    sizes = [float(np.sqrt(np.mean(x))) for x in (network, joint)]
    return Contest(sizes[0], sizes[1], tuple(sorted(ready)))
