"""What lies in one folder, and what differs between its images besides their time."""

import json

import numpy as np

from tests.recipes.qmri.case_phantoms import (
    FA,
    TE,
    TR,
    decay,
    magnitudes,
    put,
    put_series,
    spoiled,
)
from tests.recipes.qmri.cases.case import Case

ECHOES = magnitudes(decay())
MAP = ECHOES[0] * 0 + 80.0  # a map of T2 that somebody has made before
RS, SS = (2.0, 3.0, 5.0, 7.0, 4.0, 6.0), (0.01, 0.02, 0.005, 0.03, 0.01, 0.02)


def echoes(*options, images=ECHOES, name="e{}", **fields):
    """A folder of echoes; a tuple stands for a value an image."""

    def build(folder):
        put_series(folder, "EchoTime", TE, images, name, **fields)
        return [f"--input={folder}", *options]

    return build


def beside(name, image, **fields):
    """The same folder with one more image in it."""

    def build(folder):
        put_series(folder, "EchoTime", TE, ECHOES, "sub-1_echo-{}_MEGRE")
        put(folder, name, image, **fields)
        return [f"--input={folder}"]

    return build


def angles_by_echoes(folder):
    """Four angles at three echo times: T2* is 30 ms, T1 1200 ms."""
    for e, te in enumerate((0.002, 0.006, 0.01)):
        images = magnitudes(spoiled() * np.exp(-te / 0.03), seed=e)
        fields = {"EchoTime": te, "RepetitionTime": TR}
        put_series(folder, "FlipAngle", FA, images, f"f{{}}_e{e}", **fields)
    return [f"--input={folder}", "--config.predict.contrast=vfa"]


def transfer_pulses(folder):
    """The first angle once more, with a magnetisation transfer pulse."""
    images = magnitudes(spoiled())
    put_series(folder, "FlipAngle", FA, images, RepetitionTime=TR, MTState=False)
    put(folder, "mt", images[0] / 2, FlipAngle=FA[0], RepetitionTime=TR, MTState=True)
    return [f"--input={folder}"]


def inherited(folder):
    """Echo times and TR in sidecars of the images' folders, as BIDS has it."""
    (folder / "dataset_description.json").write_text("{}")
    anat = folder / "sub-1" / "anat"
    for e, image in enumerate(ECHOES):
        put(anat, f"sub-1_echo-{e + 1}_MEGRE", image)
        above = folder / f"echo-{e + 1}_MEGRE.json"
        above.write_text(json.dumps({"EchoTime": TE[e]}))
    (folder / "MEGRE.json").write_text(json.dumps({"EchoTime": 0.5}))
    return [f"--input={anat}"]


def rivals(folder):
    """Two sidecars that are equally specific and say different things."""
    inherited(folder)
    anat = folder / "sub-1" / "anat"
    for pair, te in (("sub-1_MEGRE", 0.01), ("echo-1_MEGRE", 0.02)):
        (anat / f"{pair}.json").write_text(json.dumps({"EchoTime": te}))
    return [f"--input={anat}"]


def displayed(*, said=True):
    """Philips's displayed values D = P RS SS of all images but one."""
    factor = np.multiply(RS, SS)
    factor[1] = 1
    flags = {"UsePhilipsFloatNotDisplayScaling": tuple(int(f == 1) for f in factor)}
    return echoes(
        images=ECHOES * factor[:, None, None].astype(np.float32),
        Manufacturer="Philips",
        PhilipsRescaleSlope=RS,
        PhilipsScaleSlope=SS,
        **(flags if said else {}),
    )


def twice(text):
    """The first sidecar as text."""

    def build(folder):
        put_series(folder, "EchoTime", TE, ECHOES)
        (folder / "e1.json").write_text(text)
        return [f"--input={folder}"]

    return build


def backwards(folder):
    """Files named in the order of falling times."""
    paths = [
        put(folder, f"{9 - n}", image, EchoTime=te)
        for n, (te, image) in enumerate(zip(TE, ECHOES, strict=True))
    ]
    return [f"--input={','.join(map(str, paths[::-1]))}"]


CASES = [
    Case("echoes", echoes(), 80),
    Case("echoes named backwards", backwards, 80),
    Case(
        "a derived map among the echoes",
        beside("map", MAP, EchoTime=0.01, ImageType=["DERIVED", "PRIMARY"]),
        80,
    ),
    Case("a map by its suffix", beside("sub-1_T2starmap", MAP, EchoTime=0.01), 80),
    Case("another suffix", beside("sub-1_T1w", ECHOES[0] * 2, EchoTime=0.003), 80),
    Case("phase images", beside("sub-1_echo-1_part-phase_MEGRE", MAP, EchoTime=1), 80),
    Case("several angles at several echoes", angles_by_echoes, 1200),
    Case("transfer pulses among the angles", transfer_pulses, 1200),
    Case("sidecars of parent folders", inherited, 80),
    Case("sidecars that contradict", rivals, refusal="both apply and differ in EchoT"),
    Case("displayed values of Philips", displayed(), 80),
    Case(
        "values of Philips of an unknown kind",
        displayed(said=False),
        refusal="no UsePhilipsFloatNotDisplayScaling says whether",
    ),
    Case(
        "rescale slopes that differ",
        echoes(RescaleSlope=RS),
        refusal="which scale is common is not known",
    ),
    *(
        Case(f"{key} differs", echoes(**{key: values}), refusal=f"{key} {values[-1]!r}")
        for key, values in {
            "NumberOfAverages": (1, 1, 1, 1, 1, 2),
            "ReceiverGain": (1, 1, 1, 1, 1, 9.5),
            "MagneticFieldStrength": (3, 3, 3, 3, 3, 1.5),
            "CoilString": ("HEA", "HEA", "HEA", "HEA", "HEA", "BODY"),
            "MRAcquisitionType": ("2D", "2D", "2D", "2D", "2D", "3D"),
        }.items()
    ),
    Case(
        "an echo of another flip angle", echoes(FlipAngle=(90, 90, 90, 90, 90, 60)), 80
    ),
    Case(
        "repetition times differ with echo times",
        echoes(RepetitionTime=(1, 2, 3, 4, 5, 6)),
        refusal="EchoTime and RepetitionTime differ together",
    ),
    Case(
        "echo times in milliseconds",
        lambda folder: [
            f"--input={put_series(folder, 'EchoTime', [1e3 * t for t in TE], ECHOES)}"
        ],
        refusal="milliseconds",
    ),
    Case(
        "echo numbers against echo times",
        echoes(EchoNumber=(6, 5, 4, 3, 2, 1)),
        refusal="expected both to rise together",
    ),
    Case("echoes above TR", echoes(RepetitionTime=0.05), refusal="not below the repet"),
    Case(
        "a key twice in a sidecar",
        twice('{"EchoTime": 0.01, "EchoTime": 0.03}'),
        refusal="'EchoTime' twice",
    ),
    Case("a sidecar cut short", twice('{"EchoTime": 0.0'), refusal="not JSON"),
    Case(
        "a time that is a word",
        twice('{"EchoTime": "ten"}'),
        refusal="EchoTime 'ten'; expected a number",
    ),
]
