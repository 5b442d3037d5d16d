"""The sections of `configs/puq.py`, which says what each option does, as records."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from medjax.recipes.sections import read_section

SCHEDULING = ("remat", "unroll")  # of a network; they bear on no number


class Subspace(NamedTuple):
    """Signal curves whose first `rank` singular vectors span the images; 0 for none."""

    rank: int
    low: float  # s: of the curves' time constants
    high: float  # s
    atoms: int


class Data(NamedTuple):
    """Simulated subjects, and how they are measured."""

    source: str
    contrast: str
    times: tuple[float, ...]  # s
    size: int
    field: float  # mm
    coils: int
    mask: str
    accelerations: tuple[float, ...]
    center_fraction: float
    snr: tuple[float, float]
    subjects: int
    lesion_share: float
    time_spread: float


class Network(NamedTuple):
    """The unrolled network: a `Design` but for the channels that it sees."""

    subspace: Subspace
    width: int
    layers: int
    dropout: float
    stages: int
    shared: bool
    consistency: str
    damping: float
    iterations: int
    start_iterations: int
    remat: bool
    unroll: int


class Adam(NamedTuple):
    """The options of the guided fit's optimiser, see `make_optimizer`."""

    lr: float
    decay: str
    warmup: int
    clip_norm: float | None
    weight_decay: float
    betas: tuple[float, float]


class Muon(NamedTuple):
    """The options of the network's optimiser, see `make_optimizer`."""

    lr: float
    muon_lr: float | None
    decay: str
    warmup: int
    clip_norm: float | None
    weight_decay: float
    betas: tuple[float, float]


class Train(NamedTuple):
    """How the network is trained."""

    steps: int
    batch: int  # slices
    evaluate_every: int
    evaluate_limit: int  # slices
    optim: Muon


class Density(NamedTuple):
    """A density of T that is learned beside the regressors."""

    bins: int  # classes of log T; 0: none
    width: int  # of its hidden layers
    pace: float  # of its learning, times the regressors' rate


class Factor(NamedTuple):
    """How a factor on dropout's deviation is found."""

    slices: int  # of validation subjects; 0: none, and the demo's factor stands
    coverage: float  # of the posterior's intervals, above 0 and below 1
    factors: tuple[float, ...]  # that are tried; rising, above 0


class Fit(NamedTuple):
    """The guided fit, and how it is trained."""

    bounds: tuple[float, float]  # s
    normalisation: str
    width: int
    layers: int
    steps: int
    batch: int  # slices
    passes: int
    chunk: int
    minibatches: int
    minibatch: int  # voxels
    optim: Adam
    categorical: Density
    calibration: Factor


class Method(NamedTuple):
    """A classical reconstruction; None stands for an option that it does not take."""

    kind: str
    subspace: Subspace | None = None
    damping: float | None = None
    threshold: float | None = None
    iterations: int | None = None
    # of joint TV: steps inside a step, scales of the subspace's coefficients
    inner: int | None = None
    scales: tuple[float, ...] | None = None
    # of which held-out lines choose, slice by slice, and the share of the outer lines
    # that is held out; damping or threshold is then that of slices without such lines
    weights: tuple[float, ...] | None = None
    share: float | None = None
    draws: int | None = None  # of these lines; 1 or more


class Evaluation(NamedTuple):
    """Subjects that no training saw, and the methods compared on them."""

    subjects: int
    limit: int  # slices
    batch: int
    seed: int
    passes: int
    chunk: int
    tissue_below: float  # s
    bootstrap: int
    level: float
    invivo: str
    methods: Mapping[str, Method]


class Calibrate(NamedTuple):
    """How error bars are calibrated, see `--mode=calibrate`."""

    slices: int  # of training subjects
    validation: int  # slices of validation subjects
    subjects: int  # of either part
    snr: tuple[float, ...]  # of the training slices; (): as `data.snr` has them
    batch: int  # slices
    accelerations: tuple[float, ...]
    coverage: float
    factors: tuple[float, ...]  # on u, that are tried; rising
    pooling: float  # of accelerations, 0 to 1


class Measured(NamedTuple):
    """What of `Data` a network was trained to see."""

    contrast: str
    times: tuple[float, ...]  # s; empty: the contrast's own


class Regression(NamedTuple):
    """What of `Fit` its regressors are."""

    bounds: tuple[float, float]  # s
    normalisation: str
    width: int
    layers: int


class Definition(NamedTuple):
    """What tells one trained network from another."""

    data: Measured
    network: Network
    fit: Regression


class Predict(NamedTuple):
    """How a person's scan becomes maps."""

    contrast: str
    times: tuple[float, ...]  # s, or radians
    sens: str
    noise_scan: str
    orientation: str
    voxel_mm: tuple[float, ...]
    model: str
    b1: str
    skip: int  # echoes
    magnitude: bool
    phase: str
    method: str
    default: str
    fallback: str  # where the default cannot choose its weight
    methods: Mapping[str, Method]
    fit: str
    quantiles: tuple[float, float]  # of a posterior
    calibration: str
    self_check: bool
    labels: str
    label_names: str
    reference: str
    replicas: int
    passes: int
    chunk: int
    slab: int  # slices
    strict: bool
    noise: float | None  # sd, in the unit of the images
    coils: int
    register: str
    overwrite: bool
    usual: Definition


def define(data: Data, network: Network, fit: Fit) -> Definition:
    """What of a run's sections defines its network."""
    regression = Regression(fit.bounds, fit.normalisation, fit.width, fit.layers)
    return Definition(Measured(data.contrast, data.times), network, regression)


def read_definition(config: Mapping[str, Mapping[str, Any]]) -> Definition:
    """The part of a config, or of a manifest's copy of one, that defines a network.

    Args:
        config: Sections by name; `data`, `network` and `fit` are read.

    Raises:
        ValueError: An option is missing, or the network has an unknown one.
    """
    return Definition(
        read_section(Measured, "data", _part(Measured, config["data"])),
        read_section(Network, "network", config["network"]),
        read_section(Regression, "fit", _part(Regression, config["fit"])),
    )


def _part(record: Any, section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: section[name] for name in record._fields if name in section}
