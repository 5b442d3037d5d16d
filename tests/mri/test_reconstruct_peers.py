"""CG-SENSE beside BART's `pics` and SigPy's `SenseRecon` on BART's phantom."""

import functools
import os
import pathlib
import shutil
import subprocess

import jax
import numpy as np
import pytest

from medjax.mri.fourier import fft2c
from medjax.mri.reconstruct import cg_sense

SIZE, COILS, DAMPING, ITERATIONS = 128, 8, 1e-3, 30


def write_cfl(path, array):
    """BART's pair of files: column-major complex64, sizes as text."""
    sizes = " ".join(str(n) for n in array.shape)
    pathlib.Path(f"{path}.hdr").write_text(f"# Dimensions\n{sizes}\n")
    np.asarray(array, np.complex64).ravel(order="F").tofile(f"{path}.cfl")


def read_cfl(path):
    lines = pathlib.Path(f"{path}.hdr").read_text().splitlines()
    sizes = [int(n) for n in lines[1].split()]
    return np.squeeze(
        np.fromfile(f"{path}.cfl", np.complex64).reshape(sizes, order="F")
    )


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    """Runs `bart ...` in a folder of its own and returns its last argument's path."""
    if not shutil.which("bart"):
        pytest.skip("bart is not on the PATH: apt-get install bart")
    folder = tmp_path_factory.mktemp("bart")

    def run(*arguments):
        # One thread: BART's wait for each other in a loop, forever on a busy machine.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(["bart", *arguments], cwd=folder, env=environment, check=True)
        return folder / arguments[-1]

    return run


@pytest.fixture(scope="module")
def scan(bart):
    """Shepp-Logan, 8 coils, 32 of 128 columns (12 in the centre): R = 4."""
    image = read_cfl(bart("phantom", "-x", str(SIZE), "image"))
    sens = read_cfl(bart("phantom", "-x", str(SIZE), "-S", str(COILS), "sens"))
    sens = np.moveaxis(sens, -1, 0)
    sens = sens / np.sqrt(np.sum(np.abs(sens) ** 2, axis=0))
    rng = np.random.default_rng(1)
    noise = [0.005 * rng.standard_normal((SIZE, SIZE, COILS)) for _ in range(2)]
    noise = np.moveaxis(noise[0] + 1j * noise[1], -1, 0)
    columns = np.zeros(SIZE, bool)
    columns[58:70] = True
    columns[rng.choice(np.flatnonzero(~columns), 20, replace=False)] = True
    kspace = np.asarray(fft2c(sens * image)) + noise
    return image, sens.astype(np.complex64), (kspace * columns).astype(np.complex64)


@pytest.fixture(scope="module")
def ours(scan):
    _, sens, kspace = scan
    mask = (kspace[:1, :1] != 0).any((0, 1))[None, None]
    solve = jax.jit(functools.partial(cg_sense, damping=DAMPING, iterations=ITERATIONS))
    return np.asarray(solve(kspace[None], sens, mask))[0]


def error(x, image):
    """NRMSE after one complex scale factor: the tools scale differently."""
    scaled = x * (np.vdot(x, image) / np.vdot(x, x))
    return np.linalg.norm(scaled - image) / np.linalg.norm(image)


def test_equals_bart(bart, scan, ours, tmp_path_factory):
    image, sens, kspace = scan
    # BART's coils are axis 3, its third dimension is 1.
    folder = tmp_path_factory.mktemp("pics")
    for name, coils in (("kspace", kspace), ("sens", sens)):
        write_cfl(folder / name, np.moveaxis(coils, 0, -1)[:, :, None, :])
    options = ["-S", "-l2", f"-r{DAMPING}", f"-i{ITERATIONS}"]
    inputs = [str(folder / "kspace"), str(folder / "sens")]
    theirs = read_cfl(bart("pics", *options, *inputs, "out"))
    _compare(ours, theirs, image)


def test_equals_sigpy(scan, ours):
    app = pytest.importorskip("sigpy.mri.app", reason="SigPy is the oracle")
    image, sens, kspace = scan
    theirs = app.SenseRecon(
        kspace, sens, lamda=DAMPING, max_iter=ITERATIONS, show_pbar=False
    ).run()
    _compare(ours, theirs, image)


def _compare(ours, theirs, image):
    # Four digits, which is what unconverged steps of three programs agree on.
    np.testing.assert_allclose(error(ours, image), 0.4182, atol=5e-5)
    np.testing.assert_allclose(error(theirs, image), 0.4182, atol=5e-5)
    assert error(theirs, ours) < 2e-3
