"""Two spellings of one name are found; two names are left alone."""

import pytest

from medjax.data.lists.spellings import Named, spelling_faults, spelling_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("p01", "P01"),
        ("p 01", "p01"),
        ("\uff50\uff10\uff11", "p01"),  # full width
        ("7", "007"),
        ("7", "7.0"),
        ("nodule\u200b", "nodule"),
        ("Straße", "STRASSE"),
    ],
)
def test_what_the_eye_passes_over(one, other):
    assert spelling_key(one) == spelling_key(other)
    names = [Named("line 1", "patient", one), Named("line 2", "patient", other)]
    (fault, again) = spelling_faults([*names, names[0], names[1]])
    assert fault == again
    assert (
        fault.origin == "line 2" and "in line 1; expected one spelling" in fault.message
    )


@pytest.mark.parametrize(("one", "other"), [("p1", "p2"), ("p1", "p10"), ("a", "b")])
def test_other_names(one, other):
    assert not spelling_faults([Named("1", "label", one), Named("2", "label", other)])
    assert not spelling_faults([Named("1", "label", one), Named("2", "patient", one)])
