"""What of a scan and the options cannot be planned together, refused by name."""

from collections.abc import Mapping

import numpy as np

from medjax.data.scans.formats import Scan
from medjax.recipes.qmri.methods import rank
from medjax.recipes.qmri.options import Method, Predict
from medjax.recipes.qmri.phases import Phases
from medjax.recipes.qmri.trained import Trained


def refuse_posterior(scan: Scan, what: str) -> None:
    """Refuse a posterior where no uncertainty is calibrated.

    Args:
        scan: Named in the message.
        what: What is reconstructed, in words.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"{scan.path}: predict.fit 'posterior' needs an uncertainty of each voxel, and "
        f"for {what} none is calibrated; leave predict.fit out, or predict.method"
    )


def check_shared(scan: Scan, phases: Phases, what: str, options: Predict) -> None:
    """A subspace, and a network, are of contrasts that share a phase.

    Args:
        scan: Named in the message.
        phases: Whether its contrasts agree in phase.
        what: What needs them to, in words.
        options: The methods that do not are named.

    Raises:
        ValueError: It is not so; the message says what would do.
    """
    if phases.shared:
        return
    names = [n for n, method in options.methods.items() if not rank(method)]
    raise ValueError(
        f"{scan.path}: {phases.note}; but {what} is for contrasts that agree. Leave it "
        f"out, or name a predict.method without a subspace: {', '.join(names)}"
    )


def check_still(scan: Scan, what: str, options: Predict) -> None:
    """Contrasts that are reconstructed together can't be moved afterwards.

    Args:
        scan: Named in the message.
        what: What takes contrasts together, in words.
        options: Whether they are to be moved.

    Raises:
        ValueError: It is not so; the message says what would do.
    """
    if options.register:
        raise ValueError(
            f"{scan.path}: predict.register: {what} takes contrasts together, as if "
            "they had not moved; leave one of both out"
        )


def check_subspace(
    scan: Scan, name: str, methods: Mapping[str, Method], contrast: str
) -> None:
    """The range of a subspace's time constants is that of the config's contrast.

    Args:
        scan: Its contrast.
        name: Of the method that was named.
        methods: Of the config, by name.
        contrast: That of the config.

    Raises:
        ValueError: It is not so; the message says what would do.
    """
    if not rank(methods[name]) or scan.contrast == contrast:
        return
    others = ", ".join(n for n, method in methods.items() if not rank(method))
    way = f"choose a config with contrast={scan.contrast}, or "
    raise ValueError(
        f"{scan.path}: a {scan.contrast} scan, but the subspace of {name!r} is one of "
        f"{contrast}; {'' if scan.contrast == 'vfa' else way}name a predict.method "
        f"without a subspace: {others}"
    )


def check_trained(scan: Scan, trained: Trained, *, fit: str) -> None:
    """A network knows one contrast at one series of times.

    Args:
        scan: Its contrast and times, which must be those of the network.
        trained: The network of a checkpoint.
        fit: `predict.fit`; "" is that of a network.

    Raises:
        ValueError: It is not so; the message says what would do.
    """
    contrast, where = trained.contrast, trained.folder.parent
    fit = fit or "weighted"
    if trained.stage == "reconstruction" and fit != "plain":
        raise ValueError(
            f"{where}: the stage that trains for predict.fit {fit!r} comes after this "
            "one; name the run's folder, or say predict.fit=plain"
        )
    times = trained.estimator.quantity.times
    if scan.contrast == contrast and len(times) == len(scan.times):
        if np.allclose(times, scan.times, rtol=0, atol=1e-6):
            return
    measured, expected = (
        ", ".join(f"{t:.6g}" for t in series) for series in (scan.times, times)
    )
    raise ValueError(
        f"{scan.path}: {scan.contrast} at {measured} s, but the network of {where} was "
        f"trained for {contrast} at {expected} s; train one with data.times, or leave "
        "the checkpoint out"
    )
