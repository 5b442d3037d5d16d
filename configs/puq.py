r"""PUQ: T2 or T1 maps with error bars from accelerated multi-coil k-space.

    python run.py --config=configs/puq.py

On two CPU cores, in about five minutes: fetches tissue maps of a template brain
(12 MB), simulates subjects from them (8 coils, 6 times fewer lines, noise), trains an
unrolled reconstruction network and then PUQ's guided fit, and evaluates every method on
subjects held out: zero-filled, CG-SENSE, subspace, wavelets, locally low rank, and the
network with each kind of fit. Tables, maps and `report.html` go to the workdir. The
same command goes on where a stopped run ended.

Variants, after a colon and joined by commas:

    contrast=t2 | t1                T2 preparation (8 TE) | inversion recovery (8 TI)
    form=subspace | puq | modl      the network: MoDL's form in a subspace of 3 images;
                                    the authors' (hard consistency); MoDL's on all
    preset=demo | paper             the authors' sizes and steps, for a GPU
    data=brains | synthetic         synthetic: a head of ellipsoids, no network
    acceleration=6
    seed=0
    smoke                           seconds, on the synthetic head

    python run.py --config=configs/puq.py:contrast=t1,acceleration=4

Maps of your own file, with a trained network or without any training:

    python run.py --config=configs/puq.py --mode=predict --input=scan.h5
    python run.py --config=configs/puq.py --mode=predict --input=scan.h5 \
        --checkpoint=workdir/puq

Error bars calibrated anew, on simulated subjects measured as `data` says, of joint TV
or of a network:

    python run.py --config=configs/puq.py --mode=calibrate
    python run.py --config=configs/puq.py --mode=calibrate --checkpoint=workdir/puq

The checkpoint's manifest says what its network is: no variant has to be repeated.
Every option below can be set on its own, a list by commas, `()` for none of it, a dict
as one, and `None` where the option says so. The methods are a dict, all of them:

    --config.data.coils=4 --config.data.accelerations=4,6 --config.data.snr=inf,inf
    --config.evaluation.methods='{"CG-SENSE": {"kind": "cg_sense", "damping": 0.01}}'
"""

from ml_collections import ConfigDict

from configs import common
from configs.options import Maybe, Numbers, option

RANGES = {"t2": (0.03, 2.5), "t1": (0.2, 5.0)}  # s: of the subspaces' curves
BOUNDS = {"t2": (0.01, 2.0), "t1": (0.05, 5.0)}  # s: of a map
TISSUE = {"t2": 0.2, "t1": 2.5}  # s: what is longer is fluid


def get_config(arg: str = "") -> ConfigDict:
    """The config; see the module for `arg`."""
    arg = common.parse_arg(
        arg,
        contrast="t2",
        form="",
        preset="demo",
        data="brains",
        acceleration=6.0,
        seed=0,
        smoke=False,
    )
    common.choose("contrast", arg.contrast, ("t2", "t1"))
    common.choose("preset", arg.preset, ("demo", "paper"))
    form = arg.form or {"demo": "subspace", "paper": "puq"}[arg.preset]
    config = ConfigDict()
    config.system = "puq"
    config.seed = arg.seed
    config.mesh = common.get_mesh()
    config.rules = common.get_rules()
    config.checkpoint = common.get_checkpoint()
    config.data = get_data(arg.data, arg.contrast, arg.acceleration)
    config.network = get_network(form, arg.contrast)
    config.train = get_train()
    config.fit = get_fit(arg.contrast)
    config.evaluation = get_evaluation(arg.contrast)
    config.predict = get_predict(arg.contrast)
    config.calibrate = get_calibrate()
    if arg.preset == "paper":
        set_paper(config)
    if arg.smoke:
        set_smoke(config)
    return config


def get_data(source: str, contrast: str, acceleration: float) -> ConfigDict:
    """Simulated subjects, and how they are measured."""
    return ConfigDict(
        {
            "source": common.choose("data", source, ("brains", "synthetic")),
            "contrast": contrast,
            # s; (): PUQ's TE, or 8 TI from 0.05 to 4
            "times": option((), Numbers(float)),
            "size": 96,  # pixels
            "field": 220.0,  # mm
            "coils": 8,
            "mask": "random",  # or equispaced, poisson, full
            "accelerations": option((acceleration,), Numbers(float)),
            "center_fraction": 0.08,
            # of a subject, see `Acquisition`; inf,inf: no noise
            "snr": option((20.0, 60.0), Numbers(float, (2,))),
            "subjects": 40,  # to train on
            "lesion_share": 0.5,
            "time_spread": 0.15,  # of the subjects' relaxation times
        }
    )


def get_network(form: str, contrast: str) -> ConfigDict:
    """An unrolled network; `rank` 0 of the subspace lets it see all contrasts."""
    common.choose("form", form, ("subspace", "puq", "modl"))
    low, high = RANGES[contrast]
    hard = form == "puq"
    rank = 3 if form == "subspace" else 0
    return ConfigDict(
        {
            "subspace": {"rank": rank, "low": low, "high": high, "atoms": 400},
            "width": 32,
            "layers": 4,
            "dropout": 0.1,
            "stages": 5 if hard else 3,
            "shared": form == "modl",
            "consistency": "hard" if hard else "cg",
            "damping": 0.05,
            "iterations": 0 if hard else 4,
            "start_iterations": 15 if form == "subspace" else 0,
            "remat": False,
            "unroll": 5 if hard else 3,
        }
    )


def get_train() -> ConfigDict:
    """The network's training."""
    return ConfigDict(
        {
            "steps": 200,
            "batch": 4,  # slices
            "evaluate_every": 100,
            "evaluate_limit": 8,  # slices
            "optim": {
                "lr": 1e-3,  # of norms and dampings
                "muon_lr": option(2e-2, Maybe(float)),  # of the convolutions
                "decay": "cosine",
                "warmup": 10,
                "clip_norm": option(1.0, Maybe(float)),
                "weight_decay": 0.0,
                "betas": option((0.9, 0.99), Numbers(float, (2,))),
            },
        }
    )


def get_fit(contrast: str) -> ConfigDict:
    """The guided fit: its regressors, as the authors' but for the number of passes."""
    return ConfigDict(
        {
            "bounds": option(BOUNDS[contrast], Numbers(float, (2,))),
            "normalisation": "first" if contrast == "t2" else "largest",
            "width": 64,
            "layers": 5,
            "steps": 30,
            "batch": 4,  # slices
            "passes": 8,
            "chunk": 2,
            "minibatches": 40,  # optimiser steps on a batch
            "minibatch": 1024,  # voxels
            # a density of T beside the regressors, for simulated subjects alone
            "categorical": {
                "bins": 72,  # classes of log T; 0: none
                "width": 64,
                "pace": 3.0,  # of its learning, times `optim.lr`
            },
            # validation slices that say by what factor dropout's deviation falls short
            "calibration": {
                "slices": 12,  # 0: none, and the factor is the demo's, 4.5
                "coverage": 0.95,  # of the intervals of "unrolled, posterior"
                "factors": option(  # that are tried
                    (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 16.0, 32.0),
                    Numbers(float),
                ),
            },
            "optim": {
                "lr": 1e-3,
                "decay": "cosine",
                "warmup": 0,
                "clip_norm": option(None, Maybe(float)),
                "weight_decay": 0.0,
                "betas": option((0.9, 0.999), Numbers(float, (2,))),
            },
        }
    )


def get_methods(contrast: str, *, draws: int) -> ConfigDict:
    """Classical reconstructions, each followed by a plain fit.

    Dampings and thresholds were chosen on simulated subjects of the validation part;
    joint TV finds its weight from so many draws of lines that are held out.
    """
    low, high = RANGES[contrast]
    subspace = {"rank": 3, "low": low, "high": high, "atoms": 400}
    return ConfigDict(
        {
            "zero-filled": {"kind": "zero_filled"},
            "CG-SENSE": {"kind": "cg_sense", "damping": 2e-2, "iterations": 30},
            "subspace": {
                "kind": "subspace",
                "subspace": subspace | {"rank": 2},
                "damping": 3e-2,
                "iterations": 40,
            },
            "subspace + wavelet": {
                "kind": "wavelet",
                "subspace": subspace,
                "threshold": 4e-3,
                "iterations": 80,
            },
            "locally low rank": {
                "kind": "low_rank",
                "threshold": 2e-2,
                "iterations": 80,
            },
            "joint TV": {
                "kind": "joint_tv",
                "subspace": subspace,
                "scales": option((1.0, 0.7, 0.5), Numbers(float)),  # of coefficients
                # of images of about 1; lines that are held out choose
                "weights": option((3e-4, 1e-3, 3e-3), Numbers(float)),
                "share": 0.25,  # of the outer lines
                "draws": draws,  # of them; 1: tried on a third of the rows alone
                "iterations": 150,
                "inner": 3,
            },
        }
    )


def get_compared_methods(contrast: str) -> ConfigDict:
    """Those beside the network: each finds its weight from lines held out.

    Its damping or threshold is that of slices without outer lines.
    """
    methods = get_methods(contrast, draws=1)
    for method in methods.values():
        for usual in ("damping", "threshold"):
            if usual in method:
                tried = tuple(factor * method[usual] for factor in (1 / 3, 1.0, 3.0))
                method.weights = option(tried, Numbers(float))
                method.share = 0.25  # of the outer lines
    return methods


def get_evaluation(contrast: str) -> ConfigDict:
    """Subjects that no training saw."""
    return ConfigDict(
        {
            "subjects": 4,
            "limit": 24,  # slices; 0: all
            "batch": 4,
            "seed": 1,
            "passes": 16,
            "chunk": 4,
            "tissue_below": TISSUE[contrast],
            "bootstrap": 1000,
            "level": 0.95,
            "invivo": "",  # npz of a measured slice, see `data.qmri.invivo`
            "methods": get_compared_methods(contrast),
        }
    )


def get_calibrate() -> ConfigDict:
    """Error bars of `predict.default`'s maps, see `--mode=calibrate`."""
    return ConfigDict(
        {
            "slices": 64,  # of training subjects, for the exponents of u
            "validation": 96,  # slices of validation subjects, for the coverage
            "subjects": 24,  # of either part
            # of training slices, an equal share each, for a u that holds at any noise;
            # empty: `data.snr`
            "snr": option((10.0, 30.0, 100.0, 300.0), Numbers(float)),
            "batch": 4,  # slices
            "accelerations": option((4.0, 6.0, 8.0, 10.0), Numbers(float)),
            "coverage": 0.95,  # of the intervals
            # on u, that are tried to reach it
            "factors": option(
                (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0), Numbers(float)
            ),
            # of the factor of each acceleration with that of all, in logarithms: 0 has
            # each cover as asked, 1 all together
            "pooling": 0.5,
        }
    )


def get_predict(contrast: str) -> ConfigDict:
    """Maps of a user's file, see `--mode=predict`."""
    return ConfigDict(
        {
            "contrast": "",  # t2, t1 or vfa, where the file leaves it open
            # s (vfa: radians), in place of the file's
            "times": option((), Numbers(float)),
            "sens": "",  # a file of k-space's sensitivities, in place of its own
            "noise_scan": "",  # a file of k-space's noise samples, likewise
            # of k-space: vendor (conjugated where an ISMRMRD file says Siemens) |
            "orientation": "vendor",  # stored | conjugate
            # along rows, columns and slices, where the file lacks them
            "voxel_mm": option((), Numbers(float, (0, 3))),
            # such as t2_offset or t1_ir; empty: what the scan's facts determine, by the
            "model": "",  # table in docs/mri.md; the summary says which and why
            "b1": "",  # map of B1+ / nominal (.nii, .npz) on the scan's grid
            "skip": 0,  # shortest echo times that are left out
            "magnitude": False,  # images have lost their sign: the fit looks for it
            # of k-space's contrasts: shared | each; auto: tested from the data
            "phase": "auto",
            "method": "",  # of k-space, one of `methods`; empty: the checkpoint's
            "default": "joint TV",  # network or, if it predicts lines better, this one
            "fallback": "subspace + wavelet",  # of too few lines to hold some out
            "methods": get_methods(contrast, draws=3),
            # posterior (with intervals) | plain (least squares), and of a network's
            # images weighted | puq; empty: a posterior of joint TV, plain of images and
            # full k-space, weighted of the network
            "fit": "",
            "quantiles": option((0.025, 0.975), Numbers(float, (2,))),  # of a posterior
            "calibration": "",  # a file of --mode=calibrate; empty: the one shipped
            # two halves of the lines are held against each other: the time of about
            "self_check": True,  # four more reconstructions, beside six
            # regions on the scan's grid (.nii, .npy), a mask (0 and 1) or many: tables
            "labels": "",  # of every map by region and slice
            "label_names": "",  # their names, a BIDS table (.tsv: index, name)
            # of a phantom's vials, by these names (.tsv: name, reference, unit, sd)
            "reference": "",
            "replicas": 16,  # reconstructions that tell how alike a region's voxels err
            "passes": 20,
            "chunk": 2,
            "slab": 4,  # slices in memory
            "strict": True,  # warnings of maps end in exit code 3
            # sd of each part of magnitudes in the images' unit: their floor is fitted
            "noise": option(None, Maybe(float)),
            "coils": 1,  # of magnitudes; C of a root of the sum of C squares
            "register": "",  # rigid: contrasts are brought together, slice by slice
            "overwrite": False,  # maps of an earlier run, and what else it wrote
            "usual": get_usual(contrast),
        }
    )


def get_usual(contrast: str) -> ConfigDict:
    """Parts of a network where nobody asks for any: a checkpoint's own replace them.

    Who asks for `contrast` has not asked for what follows from it.
    """
    fit = get_fit(contrast)
    return ConfigDict(
        {
            "data": {"contrast": "t2", "times": ()},  # without any argument
            "network": get_network("subspace", contrast),
            "fit": {k: fit[k] for k in ("bounds", "normalisation", "width", "layers")},
        }
    )


def set_paper(config: ConfigDict) -> None:
    """The authors' network and training; days on a CPU."""
    config.data.update({"size": 160, "subjects": 100, "snr": (1e3, 1e3)})
    config.network.update(
        {"width": 128, "dropout": 0.3, "remat": True, "unroll": 1, "stages": 5}
    )
    config.train.update({"steps": 150_000, "batch": 32, "evaluate_every": 5000})
    config.train.optim.update({"lr": 1e-2, "muon_lr": None, "decay": "constant"})
    config.train.optim.update({"clip_norm": 1e-3, "betas": (0.9, 0.999)})
    config.fit.update({"passes": 100, "chunk": 4, "steps": 2000})
    config.evaluation.update({"passes": 100, "limit": 0, "subjects": 20})
    config.predict.passes = 100


def set_smoke(config: ConfigDict) -> None:
    """Seconds: a small head, few steps, no network."""
    config.data.update({"source": "synthetic", "size": 32, "coils": 3, "subjects": 2})
    config.network.update({"width": 6, "layers": 1})
    config.train.update({"steps": 6, "batch": 2, "evaluate_every": 3})
    config.train.evaluate_limit = 2
    config.train.optim.warmup = 1
    config.fit.update({"width": 8, "layers": 1, "steps": 4, "batch": 2, "passes": 2})
    config.fit.update({"chunk": 1, "minibatches": 2, "minibatch": 64})
    config.fit.categorical.update({"bins": 12, "width": 8})
    config.fit.calibration.slices = 2
    config.evaluation.update(
        {"subjects": 2, "limit": 4, "batch": 2, "passes": 2, "chunk": 1}
    )
    for section in (config.evaluation, config.predict):
        for method in section.methods.values():
            if "iterations" in method:
                method.iterations = 4
            if "weights" in method:
                method.weights = (1e-3, 3e-3, 1e-2)
            if "draws" in method:
                method.draws = 1
    config.predict.update({"passes": 2, "chunk": 1, "slab": 2})
    config.calibrate.update({"slices": 2, "validation": 2, "subjects": 1, "batch": 2})
    config.calibrate.accelerations = (3.0,)
    config.calibrate.snr = (20.0, 60.0)
    config.calibrate.factors = (0.01, 1.0, 100.0)
    config.checkpoint.every = 3
