"""Write espirit.npz: SigPy's and BART's maps of a small simulated calibration.

python tests/golden/make_espirit.py        (sigpy 0.1.27, bart 0.8.00 on the PATH)
"""

import pathlib
import subprocess
import tempfile

import numpy as np
import sigpy
from sigpy.mri.app import EspiritCalib

from tests.mri.coils import simulated_kspace

OPTIONS = {"kernel_width": 4, "thresh": 0.02, "crop": 0.8}


def bart_maps(kspace, calibration):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "k")
        data = kspace.transpose(1, 2, 0)[:, :, None].astype(np.complex64)
        path.with_suffix(".hdr").write_text(
            "# Dimensions\n" + " ".join(map(str, data.shape)) + "\n"
        )
        data.ravel(order="F").tofile(path.with_suffix(".cfl"))
        # Threshold on squared singular values; intensity and phase left alone.
        command = f"bart ecalib -m1 -r {calibration} -k 4 -t 0.0004 -c 0.8 k s"
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
        maps = np.fromfile(path.with_name("s.cfl"), np.complex64)
        return maps.reshape(data.shape, order="F")[:, :, 0].transpose(2, 0, 1)


def main():
    kspace, _ = simulated_kspace()
    app = EspiritCalib(
        kspace[0].astype(np.complex64), calib_width=16, show_pbar=False, **OPTIONS
    )
    version = subprocess.run(["bart", "version"], capture_output=True, text=True)
    np.savez_compressed(
        pathlib.Path(__file__).with_name("espirit.npz"),
        sigpy=app.run(),
        bart=bart_maps(kspace[0], 16),
        versions=f"sigpy {sigpy.__version__}, bart {version.stdout.strip()}",
    )


if __name__ == "__main__":
    main()
