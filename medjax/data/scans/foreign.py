"""Formats of images that are not read, and what turns them into NIfTI files."""

from pathlib import Path

DICOM = "dcm2niix -b y -p y -z y -f %p_%s_e%e -o OUT {folder}"
_NIBABEL = (
    "python -c \"import nibabel as n; n.save(n.load('{path}'), '{stem}.nii.gz')\""
)
# By ending: what it is, and the command.
_ENDINGS = {
    (".dcm", ".ima", ".dicom"): ("DICOM", DICOM),
    (".par", ".rec", ".xml.rec"): ("Philips PAR/REC", DICOM),
    (".mgz", ".mgh"): ("FreeSurfer's MGH", "mri_convert {path} {stem}.nii.gz"),
    (".img", ".img.gz", ".hdr.gz"): ("Analyze or a NIfTI pair", _NIBABEL),
    (".mnc",): ("MINC", "mnc2nii {path} {stem}.nii"),
    (".nrrd", ".nhdr", ".mha", ".mhd"): (
        "NRRD or MetaImage",
        "python -c \"import SimpleITK as s; s.WriteImage(s.ReadImage('{path}'), "
        "'{stem}.nii.gz')\"",
    ),
    (".mif", ".mif.gz", ".mih"): ("MRtrix", "mrconvert {path} {stem}.nii.gz"),
}


def foreign_image(path: Path) -> str | None:
    """What an image of another format is, and the command that converts it.

    Args:
        path: An existing file, or a folder, which is DICOM where one of its files, or
            of the files a folder below, is.

    Returns:
        A sentence for an error, or None where the file is none of these.
    """
    if path.is_dir():
        below = [f for f in sorted(path.iterdir()) if f.is_file()]
        below += [f for f in sorted(path.glob("*/*")) if f.is_file()]
        inside = next((f for f in below if _dicom(f)), None)
        if inside is None:
            return None
        return _sentence("DICOM", DICOM, path)
    if path.suffix.lower() == ".hdr":  # of BART's it is text
        with path.open("rb") as file:
            pair = file.read(4) in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0")
        if pair:
            return _sentence("Analyze or a NIfTI pair", _NIBABEL, path)
        return None
    name = path.name.lower()
    for endings, (what, command) in _ENDINGS.items():
        if name.endswith(endings):
            return _sentence(what, command, path)
    return _sentence("DICOM", DICOM, path) if _dicom(path) else None


def _sentence(what: str, command: str, path: Path) -> str:
    stem = path.with_name(path.name.split(".")[0])
    folder = path if path.is_dir() else path.parent
    said = command.format(path=path, stem=stem, folder=folder)
    return f"{path}: {what}, which is not read; convert it: {said}"


def _dicom(path: Path) -> bool:
    """Whether the file says DICM behind its preamble, or its name says so."""
    if path.name.lower().endswith((".dcm", ".ima", ".dicom")):
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
