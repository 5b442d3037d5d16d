"""Vendors' raw files are refused by name, with the converter's command."""

import re

import pytest

from medjax.data.scans.formats import open_scan


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("meas_MID1.dat", r"Siemens raw data.*siemens_to_ismrmrd -f .*meas_MID1.dat"),
        ("P12345.7", r"GE raw data.*ge_to_ismrmrd -v .*P12345.7"),
        ("ScanArchive_1.h5", r"GE raw data.*ScanArchive_1.h5"),
        ("a.lab", r"Philips raw data.*philips_to_ismrmrd -f .*/a -x"),
        ("a.raw", "Philips raw data"),
        ("a.sin", "Philips raw data"),
        ("a.list", "Philips raw data"),
        ("fid", r"Bruker raw data.*bruker_to_ismrmrd"),
        ("ser", "Bruker raw data"),
        ("2dseq", r"Bruker raw data.*brkraw tonii"),
        ("rawdata.job0", "Bruker raw data"),
    ],
)
def test_a_file_of_a_vendor(tmp_path, name, message):
    path = tmp_path / name
    path.write_bytes(b"\0" * 64)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{message}"):
        open_scan(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("fid", "acqp", "method"), "Bruker raw data"),
        (("2dseq", "visu_pars"), "Bruker raw data"),
        (("fid", "procpar"), r"Varian or Agilent raw data.*nmrglue"),
        (("meas.dat",), "Siemens raw data"),
    ],
)
def test_a_folder_of_a_vendor(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_bytes(b"\0" * 64)
    with pytest.raises(ValueError, match=message):
        open_scan(tmp_path)
    if "fid" in names:
        with pytest.raises(ValueError, match=message):
            open_scan(tmp_path / "fid")
