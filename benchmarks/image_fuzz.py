"""Spoilt image files: each is shown or refused by line and name, and nothing leaks.

    python benchmarks/image_fuzz.py --cases 550 --seed 2

Files of 18 kinds (DICOM of seven, NIfTI, TIFF, PNG, JPEG, ...) are cut, overwritten and
lengthened at random, and read as a run reads them. It prints how many were shown and
refused by kind, and every case that ended otherwise: another error than a ValueError, a
message without the line, one with a folder, or with what a header says of the patient.
The same is asked of everything that is logged and warned of.
"""

import argparse
import collections
import io
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medjax.data.images import ImageFile, image_groups, image_size, read_image
from tests.data.images.dicom_files import MARKERS, dataset

SYNTAXES = {
    "implicit": uid.ImplicitVRLittleEndian,
    "jpeg2000": uid.JPEG2000Lossless,
    "rle": uid.RLELossless,
}


def sound_files(folder, rng):
    """Write one file of each kind; their paths."""
    deep = rng.integers(0, 4096, (64, 64)).astype(np.uint16)
    small, plain = deep[:16, :16], rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    window = {"WindowCenter": [900, 1], "WindowWidth": [1500, 2]}
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 12], list(range(4096))
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        data = rng.integers(0, 65536, 256).astype(np.uint16).tobytes()
        palette[f"{name}PaletteColorLookupTableData"] = data
    sets = {
        "plain": dataset(small, SpecificCharacterSet="ISO_IR 100", **window),
        "frames": dataset(np.stack([small] * 3)),
        "palette": dataset((small % 256).astype(np.uint8), **palette),
        "table": dataset(small, VOILUTSequence=[table]),
    }
    for name, syntax in SYNTAXES.items():
        sets[name] = dataset(deep, **window)
        if syntax.is_compressed:
            sets[name].compress(syntax, generate_instance_uid=False)
        sets[name].file_meta.TransferSyntaxUID = syntax
    for name, one in sets.items():
        one.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    volume = np.repeat(deep[:8, :8, None], 8, axis=2)
    for name, kind in (("a.nii", np.int16), ("a.nii.gz", np.float32)):
        image = nibabel.Nifti1Image(volume.astype(kind), np.eye(4))
        nibabel.save(image, folder / name)
    tifffile.imwrite(folder / "deep.tif", small)
    tifffile.imwrite(folder / "packed.tif", small, compression="zlib")
    tifffile.imwrite(folder / "float.tif", small.astype(np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "jpg", "tif", "gif", "webp", "bmp", "ppm"):
        turned = {"exif": exif} if suffix in ("png", "jpg", "tif") else {}
        Image.fromarray(plain).save(folder / f"a.{suffix}", **turned)
    return sorted(folder.iterdir())


def spoil(whole, rng, case):
    """The bytes cut, overwritten or lengthened."""
    body = bytearray(whole)
    how = rng.integers(0, 4)
    if how == 0:
        body = body[: rng.integers(0, len(body))]
    reach = len(body) if case % 3 == 0 else min(len(body), 700)
    for place in rng.integers(0, max(reach, 1), rng.integers(1, 5)):
        body[place : place + 1] = [int(rng.integers(0, 256))]
    if how == 1:
        place = rng.integers(0, max(len(body) - 20, 1))
        body[place:place] = rng.bytes(rng.integers(1, 9))
    return bytes(body)


def fault_of(call, file, folder):
    """None where the file is shown, "" where it is refused well, else what is wrong."""
    try:
        call(file, "L")
    except ValueError as error:
        text = str(error)
        leaks = any(word in text for word in (*MARKERS, str(folder)))
        return "" if text.startswith("L: ") and not leaks else text
    except Exception as error:  # what this looks for
        return f"{type(error).__name__}: {error}"
    return None


def main():
    """Spoil, read, count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    log = io.StringIO()
    logging.basicConfig(stream=log, level=0)
    said = []
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: said.append(str(message))
    counts, faults = collections.Counter(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in sound_files(folder, rng):
            whole = path.read_bytes()
            volume = path.name.startswith("a.nii")
            file = ImageFile(path, 1, "axial") if volume else ImageFile(path)
            for case in range(options.cases):
                path.write_bytes(spoil(whole, rng, case))
                for one in (file, file._replace(frame=1, pixels="square")):
                    for call in (image_size, read_image, image_groups):
                        fault = fault_of(call, one, folder)
                        word = "shown" if fault is None else "refused"
                        counts[path.name, word] += 1
                        if fault:
                            faults.append((path.name, case, call.__name__, fault))
            print(path.name, *(counts[path.name, w] for w in ("shown", "refused")))
    text = log.getvalue() + "".join(said)
    faults += [("logged", word) for word in MARKERS if word in text]
    print(*faults, sep="\n")
    print(f"{sum(counts.values())} reads, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
