"""Vendors' raw data, which is not read, and what converts it into ISMRMRD."""

from pathlib import Path
from typing import NamedTuple


class Vendor(NamedTuple):
    """A vendor's raw format, and the command that converts it."""

    what: str
    command: str  # {path}, {stem} (the path without its ending) and {folder} filled in


_SIEMENS = Vendor(
    "Siemens raw data (twix)",
    "siemens_to_ismrmrd -f {path} -o {stem}.h5 (of a file with several measurements "
    "-z 2 is the second; the first one often is its noise: convert both and name them, "
    "joined by a comma)",
)
_GE = Vendor(
    "GE raw data (a P-file or ScanArchive)",
    "ge_to_ismrmrd -v {path} (built against GE's Orchestra SDK; of older versions "
    "pfile2ismrmrd -l libp2i-generic.so -p GenericConverter "
    "-x $GE_TOOLS_HOME/share/ge-tools/config/default.xsl {path})",
)
_PHILIPS = Vendor(
    "Philips raw data",
    "philips_to_ismrmrd -f {stem} -x IsmrmrdPhilips.xsl -o {stem}.h5 (from .lab and "
    ".raw; of .data and .list export those first)",
)
_BRUKER = Vendor(
    "Bruker raw data",
    "bruker_to_ismrmrd {folder} (fid or ser; a reconstructed 2dseq: "
    "brkraw tonii {folder})",
)
_VARIAN = Vendor(
    "Varian or Agilent raw data",
    "python -c \"import nmrglue as g, numpy as n; n.save('{stem}.npy', "
    "g.varian.read('{folder}')[1])\", its axes sorted into [Z, E, C, H, W]",
)
_ENDINGS = {
    (".dat",): _SIEMENS,
    (".7",): _GE,
    (".lab", ".raw", ".sin", ".data", ".list"): _PHILIPS,
}
_BESIDE = ("acqp", "method", "acqus", "visu_pars", "reco")  # of Bruker's files


def vendor_raw(path: Path) -> str | None:
    """What a vendor's raw file is, and the command that converts it.

    Args:
        path: An existing file, or a folder as ParaVision or VnmrJ writes it.

    Returns:
        A sentence for an error, or None where the file is none of these.
    """
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if found is None:
        return None
    vendor, file = found
    fields = {"path": file, "stem": file.with_suffix(""), "folder": file.parent}
    return (
        f"{path}: {vendor.what}, which is not read; convert it to ISMRMRD: "
        f"{vendor.command.format(**fields)}"
    )


def _of_file(path: Path) -> tuple[Vendor, Path] | None:
    name = path.name.lower()
    if name.startswith("scanarchive"):
        return _GE, path
    if name in ("fid", "ser", "2dseq") or name.startswith("rawdata.job"):
        varian = path.with_name("procpar").exists()
        return (_VARIAN if varian else _BRUKER), path
    for endings, vendor in _ENDINGS.items():
        if name.endswith(endings):
            return vendor, path
    return None


def _of_folder(folder: Path) -> tuple[Vendor, Path] | None:
    names = {f.name for f in folder.iterdir() if f.is_file()}
    if "procpar" in names:
        return _VARIAN, folder / "fid"
    if names & set(_BESIDE):
        return _BRUKER, folder / "fid"
    for name in sorted(names):
        found = _of_file(folder / name)
        if found:
            return found
    return None
