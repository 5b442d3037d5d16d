"""Calibrations of error bars: those that come with the package, and a user's own.

They are JSON documents as `--mode=calibrate` writes them, with what they were made of
and by beside the numbers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medjax.data.json_files import read_json
from medjax.recipes.sections import plain
from medjax.systems.puq.calibration import Calibration, Protocol

RECONSTRUCTIONS = ("joint TV", "network")
FOLDER = Path(__file__).parent / "calibrations"
EXPECTED = "a calibration as --mode=calibrate writes it"


def shipped(contrast: str, reconstruction: str) -> Path:
    """The file of the calibration that comes with the package.

    Args:
        contrast: "t2" or "t1".
        reconstruction: "joint TV" or "network".
    """
    return FOLDER / file_name(contrast, reconstruction)


def file_name(contrast: str, reconstruction: str) -> str:
    """What a calibration's file is called, as t2_joint_tv.json.

    Args:
        contrast: "t2" or "t1".
        reconstruction: "joint TV" or "network".
    """
    return f"{contrast}_{reconstruction.replace(' ', '_').lower()}.json"


def load_calibration(
    contrast: str, reconstruction: str, *, file: str = ""
) -> Calibration:
    """The calibration of a contrast and a reconstruction, from a file or as shipped.

    Args:
        contrast: "t2" or "t1", of the scan.
        reconstruction: "joint TV" or "network", whose images are fitted.
        file: Path of a calibration made by `--mode=calibrate`; "" takes the one that
            comes with the package.

    Raises:
        FileNotFoundError: There is no such file, or none is shipped for these.
        ValueError: The file is no calibration, or is one of another contrast or
            reconstruction.
    """
    path = Path(file) if file else shipped(contrast, reconstruction)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected {EXPECTED}, for {contrast} and "
            f"{reconstruction}"
        )
    calibration = read_calibration(path)
    found = calibration.protocol.contrast, calibration.reconstruction
    if found != (contrast, reconstruction):
        raise ValueError(
            f"{path}: a calibration of {found[0]} and {found[1]}; expected one of "
            f"{contrast} and {reconstruction}: make it by --mode=calibrate"
        )
    return calibration


def read_calibration(path: Path) -> Calibration:
    """A calibration from its file; what says how it was made is not read.

    Args:
        path: A JSON document as `document` makes it.

    Raises:
        ValueError: A field is missing or of another kind, exponents do not sum to 1,
            or factors and accelerations do not go together.
    """
    found = read_json(path, expected=EXPECTED)
    try:
        return _checked(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: {type(error).__name__} {error}; expected {EXPECTED}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected {EXPECTED}") from error


def document(calibration: Calibration, **made: Any) -> dict[str, Any]:  # noqa: ANN401
    """A calibration as JSON has it, and what says how it was made.

    Args:
        calibration: Its fields stand at the top.
        made: JSON values, such as the command, seed, commit, subjects and results;
            they stand behind them.
    """
    return plain(calibration) | made


def _checked(found: Any) -> Calibration:  # noqa: ANN401
    protocol = found["protocol"]
    calibration = Calibration(
        reconstruction=found["reconstruction"],
        protocol=Protocol(
            str(protocol["contrast"]),
            _numbers(protocol["times"]),
            float(protocol["pixel"]),
            int(protocol["coils"]),
        ),
        features=tuple(map(str, found["features"])),
        exponents=_numbers(found["exponents"]),
        level=float(found["level"]),
        rate=float(found["rate"]),
        accelerations=_numbers(found["accelerations"]),
        kappa=_numbers(found["kappa"]),
        coverage=float(found["coverage"]),
        spreads=tuple(_pair(ends) for ends in found.get("spreads", ())),
        misfits=tuple(_pair(ends) for ends in found.get("misfits", ())),
    )
    if calibration.reconstruction not in RECONSTRUCTIONS:
        raise ValueError(f"reconstruction {calibration.reconstruction!r}")
    if len(calibration.exponents) != len(calibration.features):
        raise ValueError(
            f"{len(calibration.exponents)} exponents of {len(calibration.features)} "
            "features"
        )
    if not abs(sum(calibration.exponents) - 1) <= 1e-4:
        raise ValueError(f"exponents sum to {sum(calibration.exponents):.6g}, not to 1")
    rates = calibration.accelerations
    rising = all(a < b for a, b in zip(rates, rates[1:], strict=False))
    if not rates or not rising or len(calibration.kappa) != len(rates):
        raise ValueError(
            f"kappa {calibration.kappa} at accelerations {rates}: one each, rising"
        )
    for name, ends in (
        ("spreads", calibration.spreads),
        ("misfits", calibration.misfits),
    ):
        if len(ends) not in (0, len(rates)):
            raise ValueError(f"{len(ends)} {name} at {len(rates)} accelerations")
    if min(rates) < 1 or not min(calibration.kappa) > 0:
        raise ValueError(
            f"kappa {calibration.kappa} at accelerations {rates}: expected above 0, at "
            "1 or more"
        )
    return calibration


def _pair(ends: Any) -> tuple[float, float]:  # noqa: ANN401
    low, high = _numbers(ends)
    if not 0 < low < high:
        raise ValueError(f"ends {low} to {high}: expected above 0, rising")
    return low, high


def _numbers(values: Any) -> tuple[float, ...]:  # noqa: ANN401
    if isinstance(values, str | Mapping):
        raise TypeError(f"{values!r} is no list of numbers")
    return tuple(map(float, values))
