"""Packs: fetched once from an index, checked, kept; every fault named. No network."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from medjax.data.classes.nuclei import FLUORESCENCE
from medjax.data.volumes.packs import Pack, cache_dir, fetch_pack, pack_sums
from medjax.data.volumes.table import VOLUMES

IMAGE, NOTICE = "toypack/data/image.nii", "toypack-1.0.dist-info/LICENSE"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes packages from instead of any index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def make_wheel(folder, tag="py3-none-any", **extra):
    wheel = folder / f"toypack-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(IMAGE, "voxels")
        archive.writestr("toypack/__init__.py", "raise SystemExit('imported')")
        archive.writestr(NOTICE, "notice")
        info = "Metadata-Version: 2.1\nName: toypack\nVersion: 1.0\n"
        archive.writestr("toypack-1.0.dist-info/METADATA", info)
        archive.writestr(
            "toypack-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n"
        )
        archive.writestr("toypack-1.0.dist-info/RECORD", "")
        for name, content in extra.items():
            archive.writestr(name, content)
    return wheel


def make_pack(wheel, members=(IMAGE, NOTICE), sha256=None):
    return Pack(
        package="toypack",
        version="1.0",
        sha256=sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest(),
        megabytes=0.1,
        members=members,
        licence="none",
        credit="nobody",
    )


def quiet(line):
    del line


def test_members_are_kept_and_the_second_call_is_offline(index, tmp_path, monkeypatch):
    pack = make_pack(make_wheel(index))
    lines = []
    paths = fetch_pack(pack, tmp_path / "cache", progress=lines.append)
    assert paths["image.nii"].read_text() == "voxels"
    kept = {p.name for p in paths["image.nii"].parent.iterdir()}
    assert kept == {"image.nii", "LICENSE", "sha256.json"}  # nothing to import
    assert any("of 0.1 MB" in line for line in lines)
    assert [p.name for p in (tmp_path / "cache/packs").iterdir()] == ["toypack-1.0"]

    def no_pip(*args, **kwargs):
        raise AssertionError("called pip")

    monkeypatch.setattr(subprocess, "Popen", no_pip)
    assert fetch_pack(pack, tmp_path / "cache", progress=quiet) == paths


def test_a_named_wheel_is_taken_on_any_machine(index, tmp_path):
    """Of wheels for three machines, none of them this one, the one that is named."""
    for tag in ("cp39-cp39-win_amd64", "cp38-cp38-win_amd64", "cp39-cp39-win32"):
        wheel = make_wheel(index, tag, note=tag)
        pack = make_pack(wheel)._replace(tags=tuple(tag.split("-")))
        with pytest.raises(ConnectionError, match=r"toypack 1\.0"):
            fetch_pack(pack._replace(tags=None), tmp_path / tag, progress=quiet)
        paths = fetch_pack(pack, tmp_path / tag, progress=quiet)  # checks its sum
        assert paths["image.nii"].read_text() == "voxels"


def test_no_network_names_the_pack_and_the_way_out(index, tmp_path):
    pack = make_pack(make_wheel(tmp_path))  # the index is empty
    with pytest.raises(ConnectionError, match=r"toypack 1\.0.*data=synthetic"):
        fetch_pack(pack, tmp_path / "cache", progress=quiet)
    assert list((tmp_path / "cache/packs").iterdir()) == []


def test_wrong_checksum_keeps_nothing(index, tmp_path):
    pack = make_pack(make_wheel(index), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"toypack.*expected.*0{64}.*found.*synthetic"):
        fetch_pack(pack, tmp_path / "cache", progress=quiet)
    assert list((tmp_path / "cache/packs").iterdir()) == []


@pytest.mark.parametrize(
    ("member", "message"),
    [("toypack/absent.nii", "not found"), ("../escape", "leaves its folder")],
)
def test_bad_members_are_refused(index, tmp_path, member, message):
    wheel = make_wheel(index, **{"../escape": "bad"})
    with pytest.raises(ValueError, match=message):
        fetch_pack(make_pack(wheel, (member,)), tmp_path / "cache", progress=quiet)
    assert not list(tmp_path.rglob("escape"))


def test_changed_cache_is_noticed(index, tmp_path):
    pack = make_pack(make_wheel(index))
    paths = fetch_pack(pack, tmp_path / "cache", progress=quiet)
    paths["image.nii"].write_text("other")
    with pytest.raises(ValueError, match=r"image\.nii.*Delete"):
        fetch_pack(pack, tmp_path / "cache", progress=quiet)
    paths["image.nii"].unlink()
    with pytest.raises(ValueError, match="missing or was changed"):
        fetch_pack(pack, tmp_path / "cache", progress=quiet)


def test_cache_folder_is_argument_then_environment_then_home(monkeypatch):
    monkeypatch.setenv("MEDJAX_CACHE", "/somewhere")
    assert cache_dir("/here") == Path("/here")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("MEDJAX_CACHE")
    assert cache_dir() == Path.home() / ".cache/medjax"


def test_every_pack_says_what_it_is_and_whom_to_credit():
    packs = {FLUORESCENCE, *(pack for row in VOLUMES.values() for pack in row.packs)}
    assert len(packs) == len(pack_sums(tuple(packs))) == 5
    for pack in packs:
        assert len(pack.sha256) == 64 and pack.licence and pack.credit
        assert any("LICENSE" in member for member in pack.members)
