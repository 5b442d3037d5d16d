"""One library, in a process of its own, does a task whenever it is told to.

    python worker.py LIBRARY PROBLEM.npz RESULTS

A line "task" in, a line of JSON {"seconds", "cpu"} out; what came out stands in
RESULTS/LIBRARY-task.npy. Before a task, "prepare task" readies it: what a user would do
once (load arrays, compile) is not in its seconds, and "tasks" lists what it can do.
Input and output are NumPy arrays, or files where the library is a command.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import types
import warnings

import numpy as np

THRESHOLD = 0.001**0.5  # of singular values, BART's own; it takes the square


def medjax_tasks(p):
    import jax
    import jax.numpy as jnp

    from medjax.mri import cg_sense, joint_tv_sense, wavelet_sense
    from medjax.mri.catalogue import T2
    from medjax.mri.espirit import estimate_sensitivities
    from medjax.mri.fit import fit_map

    mask = p["mask"][:, None]  # [E, 1, W]

    def call(fn, *arrays):
        compiled = jax.jit(fn)
        return lambda: np.asarray(compiled(*map(jnp.asarray, arrays)))

    def cg(kspace, mask):
        def fn(k, s, m):
            return cg_sense(k, s, m, damping=p["damping"], iterations=30)

        return lambda: call(fn, kspace, p["sens"], mask)

    def wavelet(k, s, m):
        key = jax.random.key(0)
        return wavelet_sense(k, s, m, key, threshold=1e-3, iterations=100, order=2)[0]

    def espirit(k):
        options = {"kernel": 6, "threshold": THRESHOLD, "crop": 0.0}
        return estimate_sensitivities(k, calibration=(12, 12), **options)

    def fit(images):
        result = fit_map(images, p["te"], model=T2)
        return jnp.stack([result.params["t2"], result.sigma["t2"]])

    one = p["kspace"][:1]

    def tv(steps):
        def fn(k, s, m):
            found = joint_tv_sense(k, s, m, weight=p["weight"], iterations=steps)
            return found.reshape(k.shape[-2:])

        return lambda: call(fn, one, p["sens"], mask[:1])

    return {
        **{f"tv{n}": tv(n) for n in (25, 50, 75, 100, 150)},
        "cg": cg(one, mask[:1]),
        "cg8": cg(p["kspace"], mask),
        "wavelet": lambda: call(wavelet, one, p["sens"], mask[:1]),
        "espirit": lambda: call(espirit, one),
        "fit": lambda: call(fit, p["decays"]),
    }


def lm_tasks(p):
    """A plain batched Levenberg-Marquardt with covariance, as one would write it."""
    import jax
    import jax.numpy as jnp

    te = jnp.asarray(p["te"])

    def model(theta):
        return theta[0] * jnp.exp(-te * theta[1])

    def voxel(y):
        w = y**2
        a = jnp.stack([jnp.ones_like(te), -te], 1)
        start = jnp.linalg.solve(a.T @ (w[:, None] * a), a.T @ (w * jnp.log(abs(y))))
        theta = jnp.stack([jnp.exp(start[0]), start[1]])

        def step(_, carry):
            theta, damping, cost = carry
            jacobian, r = jax.jacfwd(model)(theta), y - model(theta)
            h = jacobian.T @ jacobian
            h = h + damping * jnp.diag(jnp.diag(h))
            new = theta + jnp.linalg.solve(h, jacobian.T @ r)
            new_cost = jnp.sum((y - model(new)) ** 2)
            better = new_cost < cost
            return (
                jnp.where(better, new, theta),
                jnp.where(better, damping * 0.3, damping * 4),
                jnp.where(better, new_cost, cost),
            )

        cost = jnp.sum((y - model(theta)) ** 2)
        theta, _, cost = jax.lax.fori_loop(0, 20, step, (theta, 1e-3, cost))
        jacobian = jax.jacfwd(model)(theta)
        variance = cost / (len(te) - 2) * jnp.linalg.inv(jacobian.T @ jacobian)[1, 1]
        return jnp.stack([1 / theta[1], jnp.sqrt(variance) / theta[1] ** 2])

    fit = jax.jit(jax.vmap(voxel, in_axes=-1, out_axes=-1))
    flat = p["decays"].reshape(len(te), -1)
    size = p["decays"].shape[1:]
    return {"fit": lambda: lambda: np.asarray(fit(jnp.asarray(flat))).reshape(2, *size)}


def scipy_tasks(p):
    from scipy.optimize import curve_fit

    def decay(t, s0, r2):
        return s0 * np.exp(-t * r2)

    def fit():
        flat = p["decays"].reshape(len(p["te"]), -1).T.astype(float)
        found = np.zeros((2, len(flat)))
        for i, y in enumerate(flat):
            theta, covariance = curve_fit(decay, p["te"], y, p0=(1.0, 10.0))
            found[:, i] = 1 / theta[1], np.sqrt(covariance[1, 1]) / theta[1] ** 2
        return found.reshape(2, *p["decays"].shape[1:])

    return {"fit": lambda: fit}


def sigpy_tasks(p):
    import sigpy
    import sigpy.mri
    from sigpy.mri.app import EspiritCalib, L1WaveletRecon, SenseRecon

    def cg(k):
        app = SenseRecon(
            k, p["sens"], lamda=p["damping"], max_iter=30, tol=0, show_pbar=False
        )
        return app.run()

    def espirit():
        app = EspiritCalib(
            p["kspace"][0], calib_width=12, crop=0, thresh=THRESHOLD, show_pbar=False
        )
        return app.run()

    def wavelet():
        options = {"wave_name": "db2", "max_iter": 100, "show_pbar": False}
        return L1WaveletRecon(p["kspace"][0], p["sens"], 1e-3, **options).run()

    class Isotropic(sigpy.prox.Prox):
        """weight sum_r |g(r)|, which SigPy's own app has for each axis apart."""

        def _prox(self, alpha, x):
            size = np.sqrt(np.sum(np.abs(x) ** 2, axis=0, keepdims=True))
            return x * np.maximum(1 - p["weight"] * alpha / np.maximum(size, 1e-30), 0)

    def tv(steps):
        mask = np.broadcast_to(p["mask"][0], p["kspace"].shape[-2:]).astype(np.float32)
        sense = sigpy.mri.linop.Sense(p["sens"], weights=mask[None])
        difference = sigpy.linop.FiniteDifference(sense.ishape)
        options = {"proxg": Isotropic(difference.oshape), "G": difference}
        options |= {"max_iter": steps, "show_pbar": False}

        def solve():
            k = p["kspace"][0] * mask
            return sigpy.app.LinearLeastSquares(sense, k, **options).run()

        return lambda: solve

    return {
        **{f"tv{n}": tv(n) for n in (25, 100, 400)},
        "cg": lambda: lambda: cg(p["kspace"][0])[None],
        "cg8": lambda: lambda: np.stack([cg(k) for k in p["kspace"]]),
        "espirit": lambda: espirit,
        "wavelet": lambda: wavelet,
    }


def bart_tasks(p):
    """Seconds count the process, and its files, in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="puq_peers_")

    def write(name, array):
        path = pathlib.Path(folder, name)
        sizes = " ".join(map(str, array.shape))
        path.with_suffix(".hdr").write_text(f"# Dimensions\n{sizes}\n")
        data = np.asarray(array, np.complex64).ravel(order="F")
        data.tofile(path.with_suffix(".cfl"))

    def read(name):
        path = pathlib.Path(folder, name)
        sizes = path.with_suffix(".hdr").read_text().split("\n")[1].split()
        data = np.fromfile(path.with_suffix(".cfl"), np.complex64)
        return data.reshape([int(n) for n in sizes], order="F")

    def bart(command, **inputs):
        for name, array in inputs.items():
            write(name, array)
        subprocess.run(
            ["bart", *command.split()], cwd=folder, check=True, capture_output=True
        )
        return read(command.split()[-1])

    def coils_last(x):
        return np.moveaxis(x, -3, -1)[..., :, :, None, :]  # [.., H, W, 1, C]

    def pics(options, kspace):
        inputs = {"k": coils_last(kspace), "s": coils_last(p["sens"])}
        return bart(f"pics -S {options} k s o", **inputs)

    def cg8():  # contrasts along BART's dimension 5, all in one solve
        k = np.moveaxis(coils_last(p["kspace"]), 0, -1)[..., None, :]
        inputs = {"k": k, "s": coils_last(p["sens"])}
        found = bart(f"pics -S -l2 -r{p['damping']} -i30 k s o", **inputs)
        return np.moveaxis(found.reshape(*k.shape[:2], -1), -1, 0)

    def espirit():
        # Left alone it takes more than the 12 x 12 points it is told to.
        block = np.zeros_like(p["kspace"][0])
        block[:, 58:70, 58:70] = p["kspace"][0][:, 58:70, 58:70]
        command = f"ecalib -m1 -r 12 -c 0 -t {THRESHOLD**2} k e"
        found = bart(command, k=coils_last(block))
        return np.moveaxis(np.squeeze(found), -1, 0)

    def fit():
        images = np.moveaxis(p["decays"], 0, -1)[:, :, None, None, None]
        te = p["te"].reshape(1, 1, 1, 1, 1, -1)
        found = bart("mobafit -T te img out", te=te, img=images)
        t2 = 1 / np.squeeze(found)[..., 1].real
        return np.stack([t2, np.full_like(t2, np.nan)])

    def tv(steps):
        options = f"-e -R T:3:0:{p['weight']} -w1 -i{steps}"
        return lambda: lambda: np.squeeze(pics(options, p["kspace"][0]))

    cg = f"-l2 -r{p['damping']} -i30"
    return {
        **{f"tv{n}": tv(n) for n in (25, 100, 400)},
        "cg": lambda: lambda: np.squeeze(pics(cg, p["kspace"][0]))[None],
        "cg8": lambda: cg8,
        "wavelet": lambda: (
            lambda: np.squeeze(pics("-l1 -r0.001 -i100", p["kspace"][0]))
        ),
        "espirit": lambda: espirit,
        "fit": lambda: fit,
    }


def mrpro_tasks(p):
    for name in ("", ".transforms", ".transforms.functional"):  # of its phantom only
        module = types.ModuleType(f"torchvision{name}")
        module.InterpolationMode = type("InterpolationMode", (), {"BILINEAR": 0})
        sys.modules.setdefault(module.__name__, module)
    import torch
    from mrpro.algorithms.optimizers import cg, pdhg
    from mrpro.operators import (
        DictionaryMatchOp,
        FastFourierOp,
        FiniteDifferenceOp,
        LinearOperator,
        LinearOperatorMatrix,
        ProximableFunctionalSeparableSum,
        SensitivityOp,
    )
    from mrpro.operators.functionals import L1NormViewAsReal, L2NormSquared
    from mrpro.operators.models import MonoExponentialDecay

    height, width = p["sens"].shape[-2:]
    sens = torch.from_numpy(p["sens"])[None, :, None]  # [other, C, z, y, x]
    fourier = FastFourierOp(
        dim=(-2, -1), recon_matrix=(height, width), encoding_matrix=(height, width)
    )
    coils = SensitivityOp(sens)

    def solve(kspace, mask):
        # Its own Cartesian operator is built from trajectories; this is what it does.
        operator = fourier @ coils
        k = torch.from_numpy(kspace)[:, :, None]
        m = torch.from_numpy(mask.astype(np.float32))[:, None, None, None, :]

        def normal(x):
            (coil_images,) = coils(x)
            (spectrum,) = fourier(coil_images)
            (back,) = operator.adjoint(spectrum * m)
            return (back + p["damping"] * x,)

        (rhs,) = operator.adjoint(k)
        (found,) = cg(normal, rhs, max_iterations=30, tolerance=0.0)
        return found.numpy().reshape(-1, height, width)

    class Sampled(LinearOperator):
        """Its masks, too, are built from trajectories."""

        def forward(self, x):
            return (x * torch.from_numpy(p["mask"][0].astype(np.float32)),)

        __call__ = adjoint = forward

    def tv(steps):
        """|Re| and |Im| of either difference: the penalty that it has a prox of."""
        sense = Sampled() @ fourier @ coils
        k = torch.from_numpy(p["kspace"][:1])[:, :, None]
        differences = FiniteDifferenceOp(
            dim=(-2, -1), mode="forward", pad_mode="circular"
        )
        f = ProximableFunctionalSeparableSum(
            0.5 * L2NormSquared(target=k), L1NormViewAsReal(weight=p["weight"])
        )
        (start,) = sense.H(k)
        options = {"max_iterations": steps, "tolerance": 0.0}
        options |= {"operator": LinearOperatorMatrix(((sense,), (differences,)))}

        def solve():
            (found,) = pdhg(f=f, g=None, initial_values=(start,), **options)
            return np.squeeze(found.numpy())

        return lambda: solve

    te = torch.from_numpy(p["te"].astype(np.float32))
    atoms = torch.linspace(0.02, 0.4, 500)
    dictionary = DictionaryMatchOp(
        MonoExponentialDecay(te), index_of_scaling_parameter=0
    )
    dictionary.append(torch.ones(1), atoms)

    def match():
        _, t2 = dictionary(torch.from_numpy(p["decays"]))
        return np.stack([t2.numpy(), np.full(t2.shape, np.nan)])

    return {
        **{f"tv{n}": tv(n) for n in (50, 100, 400)},
        "cg": lambda: lambda: solve(p["kspace"][:1], p["mask"][:1]),
        "cg8": lambda: lambda: solve(p["kspace"], p["mask"]),
        "fit": lambda: match,
    }


LIBRARIES = {
    "medjax": (medjax_tasks, ("jax", "jaxlib", "numpy")),
    "lm": (lm_tasks, ("jax", "jaxlib")),
    "scipy": (scipy_tasks, ("scipy", "numpy")),
    "sigpy": (sigpy_tasks, ("sigpy", "numpy", "numba")),
    "bart": (bart_tasks, ()),
    "mrpro": (mrpro_tasks, ("mrpro", "torch")),
}


def versions(library, packages):
    found = {name: importlib.metadata.version(name) for name in packages}
    if library == "bart":
        command = ["bart", "version"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found["bart"] = run.stdout.strip()
    return found


def cpu_seconds():
    """Of this process and of the commands it has run."""
    usage = [resource.getrusage(who) for who in (0, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def main():
    library, problem, folder = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.simplefilter("ignore")
    with np.load(problem) as arrays:
        p = {name: arrays[name] for name in arrays.files}
    p |= {name: float(p[name]) for name in ("damping", "weight")}
    tasks_fn, packages = LIBRARIES[library]
    tasks = tasks_fn(p)
    out.write(json.dumps({"tasks": [*tasks], **versions(library, packages)}) + "\n")
    ready = {}
    for line in sys.stdin:
        verb, _, task = line.strip().rpartition(" ")
        clock, cpu = time.perf_counter(), cpu_seconds()
        if verb == "prepare":
            ready[task] = tasks[task]()
        found = ready[task]()
        taken = time.perf_counter() - clock, cpu_seconds() - cpu
        if verb == "prepare":
            np.save(pathlib.Path(folder, f"{library}-{task}.npy"), found)
        out.write(json.dumps({"seconds": taken[0], "cpu": taken[1]}) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
