"""A three-dimensional scan is never in memory as a whole."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.data.scans.scan_cases import header
from tests.data.scans.test_ismrmrd import MS, line, write

DEPTH, WIDTH, COILS, FULL, ROWS = 32, 16, 32, 512, 256
PROGRAM = """
import pathlib, sys
import numpy as np
from medjax.data.scans.formats import open_scan

def kilobytes(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(name))

pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before = kilobytes("VmRSS")
scan = open_scan(sys.argv[1])
signals = [np.abs(scan.read(z).kspace).sum() for z in range(scan.num_slices)]
print(int(np.argmax(signals)), len(signals), (kilobytes("VmHWM") - before) / 1024)
"""


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/clear_refs").exists(), reason="Linux says its peak"
)
def test_memory_is_that_of_a_part_of_the_scan(tmp_path):
    """201 MB of samples, 101 MB of slices: 256 acquisitions are 34 MB."""
    data = np.ones((COILS, FULL), np.complex64)
    data[:, FULL // 2] = 9
    acquisitions = []
    for echo, step, partition in np.ndindex(len(MS), WIDTH, DEPTH):
        one = line(data * (1 + 8 * (step == WIDTH // 2)), step=step, echo=echo)
        one.idx.kspace_encode_step_2 = partition
        acquisitions.append(one)
    text = header(FULL, ROWS, WIDTH, centre=WIDTH // 2, depth=DEPTH, te=MS)
    path = write(tmp_path / "volume.h5", acquisitions, text)
    command = [sys.executable, "-c", PROGRAM, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak, slices, megabytes = done.stdout.split()
    assert (int(peak), int(slices)) == (DEPTH // 2, DEPTH)  # equal partitions: a point
    assert float(megabytes) < 120  # 95 found
