"""k-space as converters leave it: its centre, its lines, its coils and its groups."""

import h5py
import ismrmrd
import nibabel
import numpy as np

from tests.data.scans.scan_cases import header, to_bart, write_cfl
from tests.data.scans.test_ismrmrd import line, lines, write
from tests.data.scans.test_ismrmrd_forms import add, volume
from tests.recipes.qmri.cases.case import Case
from tests.recipes.qmri.cases.files import named
from tests.recipes.qmri.phase_phantoms import (
    COILS,
    COLUMNS,
    ECHOES,
    HEAD,
    INVERSIONS,
    ROWS,
    SIDE,
    coils,
    echoes,
    measure,
    object_phase,
    recoveries,
)

MS = tuple((1e3 * ECHOES).tolist())
ANGLES = (90, 80, 70, 60, 50, 40, 30, 20)  # degrees
SENS = coils()[None].astype(np.complex64)
WHOLE = np.ones((len(ECHOES), SIDE), bool)
SHORT = np.array([0.3, 0.6, 1.0, 1.5, 2.1, 2.8, 3.6, 4.5]) * 1e-3
STAR = "--config.predict.model=t2star"
GIVEN = ["--config.predict.contrast=t2", "--config.predict.times=" + ",".join(
    f"{t:g}" for t in ECHOES)]  # fmt: skip


def full(**how):
    return measure(echoes()[0], snr=100, **how)


def uncentred(acceleration, seed=1):
    """Random lines without a block in the middle, other ones in each echo."""
    return measure(echoes()[0], acceleration=acceleration, snr=100, seed=seed, centre=2)


def head(vendor="", te=MS, name="", hz="", **how):
    """An ISMRMRD header of the phantom."""
    text = header(
        **{"full": SIDE, "rows": SIDE, "width": SIDE, "centre": SIDE // 2, "te": te}
        | how
    )
    said = f"<systemVendor>{vendor}</systemVendor>" if vendor else ""
    opening = "<experimentalConditions>"
    system = f"<acquisitionSystemInformation>{said}</acquisitionSystemInformation>"
    protocol = (
        "<measurementInformation><patientPosition>HFS</patientPosition><protocolName>"
        f"{name}</protocolName></measurementInformation>"
    )
    text = text.replace("128000000", hz or "128000000")
    said = (protocol if name else "") + (system if vendor else "")
    return text.replace(opening, said + opening)


def npz(kspace, *options, key="te", times=ECHOES, **more):
    def build(folder):
        np.savez(folder / "scan.npz", kspace=kspace, **{key: times}, **more)
        return [f"--input={folder / 'scan.npz'}", *options]

    return build


def cfl(kspace):
    def build(folder):
        return [f"--input={write_cfl(folder / 'scan.cfl', to_bart(kspace))}", *GIVEN]

    return build


def raw(make, text=None, *options):
    """An ISMRMRD file of the acquisitions that `make` gives."""

    def build(folder):
        path = write(folder / "scan.h5", make(), text or head())
        return [f"--input={path}", *options]

    return build


def sampled(kspace):
    return lines(kspace, (kspace[0] != 0).any((1, 2)))


def bipolar():
    """Every other echo read backwards, center_sample at N / 2 in both."""
    kspace, found = full(), []
    for e in range(len(ECHOES)):
        for w in range(SIDE):
            data = kspace[0, e, :, :, w]
            back = e % 2 == 1
            flags = [ismrmrd.ACQ_IS_REVERSE] if back else []
            one = line(data[:, ::-1] if back else data, step=w, echo=e, flags=flags)
            found.append(one)
    return found


def stepped(step):
    found = sampled(full())
    for acquisition in found:
        acquisition.idx.kspace_encode_step_2 = step
    return found


def calibrated():
    """Half of the lines, and 24 of the first echo measured apart."""
    apart = np.zeros((1, SIDE), bool)
    apart[:, 12:36] = True
    flags = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]
    return sampled(uncentred(2)) + lines(full()[:, :1], apart, flags=flags)


def siemens_partial():
    """Lines 0 to 39 of a partial scan whose header guesses the centre wrongly."""
    kspace = full()
    kspace[..., :8] = 0
    found = sampled(kspace)
    for acquisition in found:
        acquisition.idx.kspace_encode_step_1 -= 8
        acquisition.idx.user[5] = SIDE // 2 - 8
    return found


def noise_scans():
    rng = np.random.default_rng(3)
    flags = [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]
    samples = 0.01 * (rng.normal(size=(4, COILS, 128, 2)) @ [1, 1j])
    return [line(n, flags=flags) for n in samples]


def noise_first(folder):
    path = write(folder / "scan.h5", noise_scans(), head())
    add(path, sampled(full()), head(), "dataset_1")
    return [f"--input={path}"]


def noise_file(folder):
    path = write(folder / "scan.h5", sampled(full()), head())
    noise = write(folder / "noise.h5", noise_scans(), head())
    return [f"--input={path},{noise}"]


def noise_option(folder):
    noise = write(folder / "noise.h5", noise_scans(), head())
    return [*npz(full())(folder), f"--config.predict.noise_scan={noise}"]


def apart(groups, **how):
    """A contrast in each group, or each file; a list stands for a value a contrast."""

    def build(folder):
        paths = []
        for e, ms in enumerate(MS):
            one = lines(full()[:, e : e + 1], WHOLE[:1])
            name = f"dataset_{e}" if groups and e else "dataset"
            path = folder / ("all.h5" if groups else f"e{e}.h5")
            own = {k: v[e] for k, v in how.items()}
            paths.append(str(add(path, one, head(te=(ms,), **own), name)))
        return [f"--input={','.join(dict.fromkeys(paths))}"]

    return build


def single_coil(folder):
    images, _ = echoes()
    shifted = np.fft.ifftshift(images, (-2, -1))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), (-2, -1))
    paths = []
    for e, one in enumerate(kspace.astype(np.complex64)):
        paths.append(folder / f"e{e}.h5")
        with h5py.File(paths[-1], "w") as file:
            file["kspace"] = one[None]
    return [f"--input={','.join(map(str, paths))}", *GIVEN]


def sens_beside(kind):
    def build(folder):
        path = folder / f"maps.{kind}"
        if kind == "nii":
            maps = SENS.transpose(2, 3, 0, 1)
            nibabel.save(nibabel.Nifti1Image(maps, np.eye(4)), path)
        else:
            np.savez(path, sens=SENS)
        given = npz(uncentred(2))(folder)
        return [*given, f"--config.predict.sens={path}"]

    return build


def elsewhere(change):
    """Later contrasts whose heads say another place."""
    found = sampled(full())
    for acquisition in found:
        if acquisition.idx.contrast > 3:
            change(acquisition)
    return found


def beside(acquisition):
    acquisition.position[0] += 20


def turned(acquisition):
    rows = list(acquisition.read_dir)
    acquisition.read_dir[:] = acquisition.phase_dir
    acquisition.phase_dir[:] = rows


def inversions(curve, name="", **how):
    """Recoveries of T1 1 s, in a head of the same brightness."""
    images = np.multiply.outer(np.asarray(curve), HEAD * np.exp(1j * object_phase()))
    ti = tuple((1e3 * INVERSIONS).tolist())
    return raw(lambda: sampled(measure(images)), head(name=name, te=(), ti=ti, **how))


def read_late():
    """Readouts after one inversion: T1* is 600 ms where T1 is 1 s."""
    star, t1 = 0.6, 1.0
    return star / t1 - (1 + star / t1) * np.exp(-INVERSIONS / star)


def slab():
    return volume(np.concatenate([full(seed=z) for z in range(4)]), WHOLE)


def dead_coil():
    kspace = full()
    kspace[:, :, 2] = 0
    return kspace


def short_decay():
    """T2* = 1.5 ms, as of tendons and iron."""
    turn = np.exp(1j * object_phase())
    return measure(HEAD * turn * np.exp(-SHORT[:, None, None] / 1.5e-3), snr=200)


def gradient():
    """A field gradient in the plane, one cycle each 12 ms across the head."""
    cycles = ECHOES[:, None, None] / 0.012
    turn = np.exp(2j * np.pi * cycles * np.arange(SIDE) / SIDE)
    return measure(echoes()[0] * turn)


def linked(folder):
    with h5py.File(folder / "scan.h5", "w") as file:
        file["kspace"], file["te"] = full(), ECHOES
        file["sens"] = h5py.ExternalLink("maps.h5", "/sens")
    return [f"--input={folder / 'scan.h5'}"]


BESIDE = r"stands 12 columns \(25 % of 48\) before the centre"
CUT = np.roll(full(), -12, -1)
OFF_ROWS = np.roll(full(), 12, -2)
RECOVERY = measure(recoveries()[0])
DISC = np.hypot(ROWS, 1.15 * COLUMNS) < 0.6
CASES = [
    Case("centre of a cut partial scan, npz", npz(CUT), refusal=BESIDE),
    Case("centre of a cut partial scan, cfl", cfl(CUT), refusal=BESIDE),
    Case(
        "centre of a cut partial scan, ISMRMRD",
        raw(lambda: lines(CUT, WHOLE)),
        refusal=BESIDE,
    ),
    Case("centre along rows", npz(OFF_ROWS), refusal="12 rows .* beyond the centre"),
    Case(
        "centre of an inversion recovery",
        npz(np.roll(RECOVERY, 12, -1), key="ti", times=INVERSIONS),
        refusal=r"contrast 7\) stands 12 columns",
        variant="contrast=t1",
    ),
    Case("a late echo moved by the field", npz(gradient(), STAR, sens=SENS), 60),
    Case("Siemens' own centre line", raw(siemens_partial, head("SIEMENS")), 60),
    Case("Siemens' orientation", raw(lambda: sampled(full()), head("SIEMENS")), 60),
    Case("bipolar echoes", raw(bipolar), 60),
    Case("two declared partitions", raw(lambda: stepped(0), head(depth=2)), 60),
    Case("two declared, the second used", raw(lambda: stepped(1), head(depth=2)), 60),
    Case("calibration measured apart", raw(calibrated, head(mode="separate")), 60),
    Case("noise in a group of its own", noise_first, 60),
    Case("noise in a file of its own", noise_file, 60),
    Case("noise beside npz", noise_option, 60),
    Case("a contrast a group", apart(True), 60),
    Case("a contrast a file", apart(False), 60),
    Case("single-coil fastMRI", single_coil, 60),
    Case(
        "flip angles that differ beside echo times",
        raw(lambda: sampled(full()), head(flip=ANGLES), GIVEN[0]),
        refusal="flip angles differ from contrast to contrast as the echo times do",
    ),
    Case(
        "flip angles beside echo times, npz",
        npz(full(), GIVEN[0], fa=np.deg2rad(ANGLES)),
        refusal="flip angles differ from contrast to contrast",
    ),
    Case(
        "flip angles beside times of the command line",
        npz(full(), *GIVEN, fa=np.deg2rad(ANGLES)),
        60,
        exit_code=3,
        doubt="flip angles differ .* takes as equal",
    ),
    Case(
        "a flip angle a file beside echo times",
        lambda folder: [*apart(False, flip=[(a,) for a in ANGLES])(folder), GIVEN[0]],
        refusal="flip angles differ from contrast to contrast",
    ),
    Case(
        "a contrast of another field strength",
        apart(False, hz=[*["128000000"] * 7, "64000000"]),
        refusal="e7.h5.*H1resonanceFrequency_Hz 64000000, but 128000000",
    ),
    Case(
        "contrasts beside each other",
        raw(lambda: elsewhere(beside)),
        refusal="slice 0 of contrast 4 is 20.0 mm away",
    ),
    Case(
        "contrasts that are turned",
        raw(lambda: elsewhere(turned)),
        refusal="slice 0 of contrast 4 is turned",
    ),
    Case(
        "a spin-echo train by its name, k-space",
        raw(lambda: sampled(full()), head(name="T2_MESE")),
        60,
        exit_code=3,
        doubt="names say a spin-echo train",
    ),
    Case(
        "MOLLI by its name, k-space",
        inversions(read_late(), "MOLLI_5(3)3_35deg", flip=(35,)),
        1000,
        variant="contrast=t1",
    ),
    Case(
        "small flip angles at inversion times, k-space",
        inversions(read_late(), flip=(8,)),
        600,
        exit_code=3,
        doubt="if they follow one inversion this is a Look-Locker",
        variant="contrast=t1",
    ),
    Case(
        "MP2RAGE by its name, k-space",
        inversions(read_late(), "t1_mp2rage"),
        refusal="an MP2RAGE measurement",
        variant="contrast=t1",
    ),
    Case("maps in npz", sens_beside("npz"), 60),
    Case("maps in NIfTI", sens_beside("nii"), 60),
    Case(
        "no maps and no centre",
        npz(uncentred(3)),
        refusal="needs at least 6 x 6.*predict.sens=FILE",
    ),
    Case("3-D", raw(slab, head(depth=4)), 60),
    Case(
        "3-D with missing partitions",
        raw(lambda: slab()[3:], head(depth=4)),
        refusal="3 missing partitions, up to 1 of 4",
    ),
    Case(
        "a fully sampled slice before others",
        npz(np.concatenate([full(), *[full(acceleration=4)] * 2]), sens=SENS),
        refusal="slice 1: .* % of k-space is not sampled, but the first slice",
    ),
    Case("a dead coil", npz(dead_coil()), 60),
    Case(
        "T2* of 1.5 ms, k-space", npz(short_decay(), STAR, times=SHORT, sens=SENS), 1.5,
        inside=DISC,
    ),
    Case("a link to nothing", linked, refusal="sens is a link to what is not there"),
    Case("Siemens raw", named("meas.dat"), refusal="siemens_to_ismrmrd -f"),
    Case("GE P-file", named("P01024.7"), refusal="GE raw data.*ge_to_ismrmrd"),
    Case("GE ScanArchive", named("ScanArchive_a.h5"), refusal="GE raw data"),
    Case("Philips raw", named("raw_1.lab"), refusal="philips_to_ismrmrd -f"),
    Case("Bruker raw", named("fid"), refusal="bruker_to_ismrmrd"),
]  # fmt: skip
