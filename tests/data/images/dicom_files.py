"""DICOM files for tests, with a patient whose name must not come out."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

MARKERS = ("PLANTEDNAME", "PLANTEDID", "19551231")


def dataset(pixels, **header):
    """A data set of [h w], [h w 3] or [frames h w] pixels; None leaves a name out."""
    pixels = np.asarray(pixels)
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    bits = 8 * pixels.dtype.itemsize
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = "1.2.3.4"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = MARKERS
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.5", "1.2.3.6"
    ds.Rows, ds.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in header.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    if "BitsStored" in header:
        ds.HighBit = ds.BitsStored - 1
    return ds


def write(path, pixels, **header):
    """Write `dataset` to a file and return its path."""
    dataset(pixels, **header).save_as(path, enforce_file_format=True)
    return path
