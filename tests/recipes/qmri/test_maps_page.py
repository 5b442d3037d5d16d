"""The page of a prediction opens with what happened, and shows no folder."""

from medjax.recipes.qmri.findings import Summary
from medjax.recipes.qmri.maps_page import Told, maps_page

SUMMARY = Summary(
    parameter="t2",
    voxels=100,
    median_ms=80.0,
    quartiles_ms=(70.0, 90.0),
    median_sigma_ms=1.0,
    median_r_squared=0.99,
    share_at_bounds=0.04,
    failed=0,
    share_failed=0.0,
    status={"converged": 96, "at bound": 4, "failed": 0},
    saturated=0,
    clipped=0,
    motion=[0.0, 0.1],
    moved_slices=[],
    slices_without_signal=[],
    residual=None,
)
PNG = b"\x89PNG\r\n\x1a\n"
TOLD = Told(
    "a.nii.gz: T2",
    found=("vials agree",),
    done=("/home/person/a.nii.gz: 3 slices", "t2: predict.model asks for it"),
    source="/home/person/a.nii.gz",
)


def page(warnings=(), distrust=None):
    pictures = {"figures/agreement.png": PNG, "figures/slice_012.png": PNG}
    lines = ["t2 in 100 voxels", "motion by contrast"]
    return maps_page(TOLD, warnings, lines[:1], lines[1:], SUMMARY, distrust, pictures)


def test_a_sound_map_is_called_that_first():
    text = page()
    places = [
        text.index(part)
        for part in (
            "Nothing that is looked at speaks against these maps", "t2 in 100 voxels",
            "Vials agree", "a.nii.gz: 3 slices", "t2: predict.model asks",
            "Motion by contrast", "<table>", "Vials against their", "Slice 12",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert "/home/person" not in text and "doubtful" not in text
    assert ">96.0 %<" in text and ">failed<" not in text  # of no voxel
    assert "not a medical device" in text


def test_doubts_come_before_all_else_and_distrust_is_counted():
    why = {"no reason found": 75, "at the end of the range": 25}
    text = page(["the median is its bound, 10 ms", "see /home/person/a.nii.gz"], why)
    doubt = text.index("These maps are doubtful:")
    assert doubt < text.index("The median is its bound") < text.index("t2 in 100")
    assert "Nothing that is looked at" not in text
    assert "See a.nii.gz" in text
    assert "reason of distrust" in text and ">25.0 %<" in text
