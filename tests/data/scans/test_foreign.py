"""Images of other formats are refused with the command that converts them."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import write_nifti


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("a.dcm", "DICOM.*dcm2niix"),
        ("a.IMA", "DICOM.*dcm2niix"),
        ("a.PAR", "PAR/REC.*dcm2niix"),
        ("a.mgz", "mri_convert .*a.mgz .*a.nii.gz"),
        ("a.img", "NIfTI pair.*nibabel"),
        ("a.mnc", "mnc2nii"),
        ("a.nrrd", "SimpleITK"),
        ("a.mif", "mrconvert"),
    ],
)
def test_by_name(tmp_path, name, command):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name}: .*convert it: |{command}") as error:
        open_scan(tmp_path / name)
    assert error.match(command)


def test_dicom_by_its_mark(tmp_path):
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(9))
    with pytest.raises(ValueError, match="IM0001: DICOM.*dcm2niix"):
        open_scan(tmp_path / "IM0001")
    for folder in (tmp_path, tmp_path.parent):
        with pytest.raises(ValueError, match=f"{folder}: DICOM.*dcm2niix.*{folder}"):
            open_scan(folder)


def test_analyze_is_not_taken_for_bart(tmp_path):
    import nibabel

    nibabel.AnalyzeImage(np.ones((4, 5, 3), np.int16), np.eye(4)).to_filename(
        tmp_path / "a.img"
    )
    for name in ("a.img", "a.hdr"):
        with pytest.raises(ValueError, match=f"{name}: Analyze or a NIfTI pair"):
            open_scan(tmp_path / name)


def test_a_folder_of_folders(tmp_path):
    (tmp_path / "anat").mkdir()
    write_nifti(tmp_path / "anat" / "a.nii", np.ones((4, 5, 3)))
    with pytest.raises(ValueError, match="no files of a known format.*below it: anat"):
        open_scan(tmp_path)
