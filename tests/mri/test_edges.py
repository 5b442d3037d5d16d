"""Axes of length 0 and 1 in operators and reconstructions: right shapes and numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import mri

SIZES = {"B": 2, "E": 2, "C": 2, "H": 4, "W": 4, "K": 2}
KEY = jax.random.key(0)


def nothing(_, x):
    return jnp.zeros_like(x), ()


def results(sizes, *, columns):
    """(name, result, its shape) of every function on arrays of ones."""
    b, e, c, h, w, k = (sizes[axis] for axis in "BECHWK")
    image, space, few = (b, e, h, w), (b, e, c, h, w), (b, k, h, w)
    x, y, a = (np.ones(shape, np.complex64) for shape in (image, space, few))
    sens = np.ones((b, c, h, w), np.complex64) / np.float32(np.sqrt(max(c, 1)))
    mask = np.ones((b, e, 1 if columns else h, w), bool)
    basis = np.eye(e, k, dtype=np.float32)
    kernel = mri.subspace_kernel(mask, basis)
    solve = {"damping": 1.0, "iterations": 2}
    sparse = {"threshold": 0.1, "iterations": 1}
    stages = {"damping": jnp.ones(1), "iterations": 1, "start_iterations": 1}

    def unrolled(consistency, weights=1, **options):
        return mri.unrolled_reconstruction(
            nothing,
            jnp.zeros(weights),
            y,
            sens,
            mask,
            consistency=consistency,
            **options,
        )[0]

    return [
        ("sense_forward", mri.sense_forward(x, sens, mask), space),
        ("sense_adjoint", mri.sense_adjoint(y, sens, mask), image),
        ("sense_normal", mri.sense_normal(x, sens, mask), image),
        ("sense_normal[all]", mri.sense_normal(x, sens), image),
        ("combine_coils", mri.combine_coils(y, sens), image),
        ("mix_coils", mri.mix_coils(y, np.ones((3, c))), (b, e, 3, h, w)),
        ("root_sum_of_squares", mri.root_sum_of_squares(y), image),
        (
            "normalize_sensitivities",
            mri.normalize_sensitivities(sens, floor=0.1),
            sens.shape,
        ),
        ("batch_fft", mri.batch_fft(x, axes=(0, -1)), image),
        ("fft2c", mri.fft2c(x), image),
        ("ifft2c", mri.ifft2c(x), image),
        ("project", mri.project(x, basis), few),
        ("expand", mri.expand(a, basis), image),
        ("subspace_normal", mri.subspace_normal(a, sens, kernel), few),
        ("soft_threshold", mri.soft_threshold(x, 0.1), image),
        ("wavelet_prox", mri.wavelet_prox(x, 0.1, levels=1), image),
        ("wavelet_transform", mri.wavelet_transform(x, levels=0), image),
        ("low_rank_prox", mri.low_rank_prox(x, 0.1, block=3), image),
        ("zero_filled", mri.zero_filled(y, sens, mask), image),
        ("cg_sense", mri.cg_sense(y, sens, mask, **solve), image),
        (
            "subspace_sense",
            mri.subspace_sense(y, sens, mask, basis=basis, **solve),
            image,
        ),
        (
            "wavelet_sense",
            mri.wavelet_sense(y, sens, mask, KEY, levels=1, **sparse),
            image,
        ),
        ("low_rank_sense", mri.low_rank_sense(y, sens, mask, KEY, **sparse), image),
        (
            "joint_tv_sense",
            mri.joint_tv_sense(y, sens, mask, weight=0.1, iterations=1),
            image,
        ),
        ("joint_tv_prox", mri.joint_tv_prox(x, 0.1, iterations=2).images, image),
        ("joint_total_variation", mri.joint_total_variation(x), (b,)),
        ("image_differences", mri.image_differences(x).cols, image),
        ("divergence", mri.divergence(mri.Differences(x, x)), image),
        ("unrolled[hard]", unrolled("hard"), image),
        ("unrolled[no stage]", unrolled("hard", weights=0), image),
        ("unrolled[cg]", unrolled("cg", basis=basis, **stages), image),
    ]


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("axis", SIZES)
def test_every_axis_may_be_empty_or_single(axis, size, columns):
    with jax.numpy_dtype_promotion("standard"):
        found = results(SIZES | {axis: size}, columns=columns)
    for name, result, shape in found:
        assert result.shape == shape, name
        assert np.all(np.isfinite(result)), name
    if (axis, size) == ("C", 0):  # a sum over no coils
        for name, result, _ in found[1:4]:
            assert not np.any(result), name
