"""Joint TV of the slices of a scan, each with a draw of held-out lines of its own."""

import jax
from jaxtyping import Array, Float

from medjax.systems.puq.joint_tv import Search, TvImages, joint_tv_images
from medjax.systems.puq.reconstruction import slice_keys
from medjax.types import Key, QmriBatch


def tv_images(
    batch: QmriBatch,
    key: Key,
    *,
    basis: Float[Array, "E K"],
    scales: Float[Array, "K"],
    search: Search,
) -> TvImages:
    """`joint_tv_images`, with a draw of lines that follows a slice's `sample_id`.

    Args:
        batch: k-space that is ready, in any unit.
        key: One typed key.
        basis: Of the contrasts' subspace.
        scales: Of its coefficients.
        search: Static.
    """

    def one(kspace: Array, sens: Array, mask: Array, key: Key) -> TvImages:
        found = joint_tv_images(
            kspace[None],
            sens[None],
            mask[None],
            key,
            basis=basis,
            scales=scales,
            search=search,
        )
        return jax.tree.map(lambda x: x[0], found)

    keys = slice_keys(key, batch.sample_id)
    return jax.vmap(one)(batch.kspace, batch.sens, batch.mask, keys)
