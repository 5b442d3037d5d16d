"""Hashes of groups, and messages without values: what files may say."""

import stat
import threading
from pathlib import Path

import pytest

from medjax.data.audit.records import Sample
from medjax.data.batches import Parts
from medjax.recipes.policy.privacy import (
    hide_group,
    hide_values,
    load_salt,
    make_clean,
    make_hide,
)


def parts(*groups):
    samples = tuple(
        Sample(f"l.csv, line {n + 2}", "train", (), group, {}, ("nodule",), (9, 9))
        for n, group in enumerate(groups)
    )
    return Parts(None, None, {}, samples)


def test_a_salt_is_drawn_once_and_is_its_owners(tmp_path):
    path = tmp_path / "cache" / "salt"
    salts = []
    runs = [
        threading.Thread(target=lambda: salts.append(load_salt(path))) for _ in range(8)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(set(salts)) == 1 and len(salts[0]) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_salt(path) == salts[0]
    assert [p.name for p in path.parent.iterdir()] == ["salt"]
    assert load_salt(tmp_path / "other") != salts[0]
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="5 bytes; expected the 32"):
        load_salt(path)


def test_a_group_has_one_hash_by_user(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "a"))
    hide = make_hide(parts("p017", "p018"), identify=False)
    assert hide("p017") == make_hide(parts("p017"), identify=False)("p017")
    assert hide("p017") != hide("p018")
    assert hide("p017").startswith("group-") and "017" not in hide("p017")[:9]
    # a line is nobody's name
    assert hide("l.csv, line 2") == "l.csv, line 2"
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "b"))
    assert make_hide(parts("p017"), identify=False)("p017") != hide("p017")
    assert make_hide(parts("p017"), identify=True)("p017") == "p017"
    # groups of built-in data are slices
    assert make_hide(parts(), identify=False)("axial block 3") == "axial block 3"


def test_hashes_are_hmac_sha256():
    """RFC 4231, test case 2: key "Jefe", data "what do ya want for nothing?"."""
    found = hide_group("what do ya want for nothing?", b"Jefe")
    assert found == "group-5bdcc146bf60"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "l.csv, line 2: patient is 'Jane'; expected",
            "l.csv, line 2: patient is '...'; expected",
        ),
        ("patient is 1970; expected", "patient is ...; expected"),
        (
            "a line's own 'Jane' and O'Brien's 'x'",
            "a line's own '...' and O'Brien's '...'",
        ),
        ('patient "O\'Brien"; x', 'patient "..."; x'),
        (r"patient 'O\'Brien \"B\"'; x", "patient '...'; x"),
        ("label 'nodule', split 'train'", "label 'nodule', split 'train'"),
        ("no image /data/Jane Doe/a b/x.png; mend", "no image x.png; mend"),
        ("no image Jane/x.png; mend", "no image x.png; mend"),
        ("/home/me/JANE DOE/sub/x.png", "x.png"),
        ("/home/me/JANE DOE: 2 files", ": 2 files"),
        ("box [1, 2, 3.5, 4] leaves 60 x 56", "box [1, 2, 3.5, 4] leaves 60 x 56"),
        ("groups {'patient': 'Jane'}, but", "groups {'patient': '...'}, but"),
    ],
)
def test_messages_lose_values_and_folders(text, shown):
    words = ("nodule", "train", "patient")
    roots = (Path("/home/me/JANE DOE"),)
    assert hide_values(text, words=words, roots=roots) == shown


def test_with_identify_all_is_said(tmp_path):
    source = str(tmp_path / "JANE" / "l.csv")
    clean = make_clean(parts("Jane"), source, identify=False)
    assert clean(f"{source}: 'Jane' 'nodule'") == "l.csv: '...' 'nodule'"
    whole = make_clean(parts("Jane"), source, identify=True)
    assert whole(f"{source}: 'Jane'") == f"{source}: 'Jane'"
