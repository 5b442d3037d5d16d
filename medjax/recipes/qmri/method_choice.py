"""Which reconstruction of undersampled k-space, where the one asked for cannot do."""

from collections.abc import Mapping

from medjax.data.scans.formats import Scan
from medjax.mri.model import SignalModel
from medjax.recipes.qmri.methods import rank
from medjax.recipes.qmri.models import widest_subspace
from medjax.recipes.qmri.options import Method, Predict
from medjax.recipes.qmri.phases import Phases
from medjax.recipes.qmri.plan_checks import check_shared


def default_method(scan: Scan, phases: Phases, options: Predict) -> str:
    """The method of undersampled k-space that nobody names one for."""
    methods, name = options.methods, options.default
    if phases.shared or name not in methods or not rank(methods[name]):
        return name
    other = _without_subspace(methods)
    if other is None:
        check_shared(scan, phases, f"the subspace of {name!r}", options)
    return other or name


def _without_subspace(methods: Mapping[str, Method]) -> str | None:
    """Locally low rank, or else CG-SENSE, by its name; None where there is neither."""
    for kind in ("low_rank", "cg_sense"):
        for name, method in methods.items():
            if method.kind == kind and not rank(method):
                return name
    return None


def keeping_stimulated(
    scan: Scan, name: str, methods: Mapping[str, Method], options: Predict
) -> str:
    """A method that keeps stimulated echoes, which no subspace of decays does."""
    if name not in methods or not rank(methods[name]):
        return name
    other = None if options.method else _without_subspace(methods)
    if other is None:
        names = [n for n, m in options.methods.items() if not rank(m)]
        raise ValueError(
            f"{scan.path}: predict.model 't2_epg', but the subspace of {name!r} is of "
            "decays without stimulated echoes; name a predict.method without one: "
            f"{', '.join(names)}"
        )
    return other


def keeping_inversions(
    scan: Scan, model: SignalModel, name: str, options: Predict
) -> tuple[str, dict[str, Method]]:
    """A method whose subspace holds imperfect inversions, by a name that says its rank.

    Where no subspace does and none is asked for, it is one without; so it is where TR
    differs by image, inversion times by slice, or readouts follow one another.
    """
    method = options.methods[name]
    if method.subspace is None:
        return name, dict(options.methods)
    apart = any(isinstance(c, tuple) for c in model.constants)
    apart |= "t1star" in model.parameters or scan.slice_times is not None
    times = tuple(scan.times.tolist())
    wider = None if apart else widest_subspace(times, method.subspace)
    if wider is not None:
        full = f"{name} of rank {wider.rank}"
        return full, {full: method._replace(subspace=wider)}
    other = None if options.method else _without_subspace(options.methods)
    if other is None:
        names = [n for n, m in options.methods.items() if not rank(m)]
        what = (
            "no subspace is of TR by image, of times by slice or of T1*"
            if apart
            else f"a subspace of {len(scan.times)} inversion times moves T1 of "
            "imperfect inversions by more than 1 %"
        )
        raise ValueError(
            f"{scan.path}: {what}; name a predict.method without a subspace: "
            f"{', '.join(names)}"
        )
    return other, {other: options.methods[other]}
