"""What a run's files may say of whose pictures they are: a salted hash, no folders.

A hash alone hides little: who knows how a hospital numbers its patients tries all
numbers. So it is made with 32 random bytes, drawn once for each user and kept in their
cache folder, never in a workdir. The same group has the same hash in all runs of that
user, and with the salt deleted nobody can tell any more.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from medjax.data.batches import Parts
from medjax.data.volumes.packs import cache_dir
from medjax.rl.boxes import FRAMES

_BYTES = 32
_SHOWN = 12  # hexadecimal digits of a hash: 48 bits tell thousands of groups apart
# what comes before a file's name; folders may have blanks where the path is absolute
_FOLDERS = re.compile(
    r"(?:(?<![\w.])/(?:[^/\n;'\"]{1,80}/)*|(?:[^\s'\"(\[=,:;/\\]+[/\\])+)"
    r"(?=[^\s/\\'\"]+\.\w{2,5}\b)"
)
# an apostrophe inside of a word opens nothing
_QUOTED = re.compile(
    r"(?<!\w)'(?:\\.|[^'\\\n])*'(?!\w)|(?<!\w)\"(?:\\.|[^\"\\\n])*\"(?!\w)"
)
_NUMBER = re.compile(r"(\w is )-?\d[\d.eE+-]*(?=[;,])")
_WORDS = ("train", "val", "valid", "test", "patient", "image", "label", "query", "box")
_WORDS += (*FRAMES, "frame", "split", "size", "columns", "study", "lesion", "boxes")
HideFn = Callable[[str], str]  # a group's name as files may have it


def make_hide(parts: Parts, *, identify: bool) -> HideFn:
    """How groups are called in files: as they are, or by a salted hash.

    Args:
        parts: Of built-in data groups are slices and blocks, which have their names.
        identify: Whether files may name a user's groups.
    """
    if identify or not parts.samples:
        return str
    salt = load_salt(cache_dir() / "salt")
    lines = {sample.origin for sample in parts.samples}

    def hide(group: str) -> str:
        return group if group in lines else hide_group(group, salt)

    return hide


def hide_group(group: str, salt: bytes) -> str:
    """A hash that stands for a patient or another group, such as "group-3f09a1...".

    The first 48 bits of HMAC-SHA256 of the name, keyed by the salt.

    Args:
        group: Its name, in one spelling.
        salt: Secret bytes; with another salt every hash is another.
    """
    digest = hmac.new(salt, group.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"group-{digest.hexdigest()[:_SHOWN]}"


def load_salt(path: Path) -> bytes:
    """The user's secret bytes, drawn where there are none yet.

    Args:
        path: The file, which its owner alone can read. Of two runs that draw at once
            both get the bytes of the first.

    Raises:
        ValueError: The file holds something else; which hashes it made cannot be told.
        OSError: There is none, and the folder cannot be written to.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
            os.link(temporary, path)  # fails where another run was first
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
    salt = path.read_bytes()
    if len(salt) != _BYTES:
        raise ValueError(
            f"{path}: {len(salt)} bytes; expected the {_BYTES} that hide whose "
            "pictures a run's files are about. Delete it to have new ones drawn: "
            "groups get other hashes than in earlier runs"
        )
    return salt


def make_clean(
    parts: Parts | None, source: str, *, identify: bool
) -> Callable[[str], str]:
    """How messages about a user's data stand in files: names of files, no values.

    What stands in quotes is left out unless it is a label or a word of the library, and
    so is a number that is said to be the value of a column.

    Args:
        parts: Give the labels; None where the data could not be read.
        source: The data's path.
        identify: Whether files may say all.
    """
    if identify:
        return str
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    roots = {root, Path(os.path.abspath(root)), Path(os.path.realpath(root))}
    words = {label for s in parts.samples for label in s.labels} if parts else set()
    return partial(hide_values, words={*words, *_WORDS}, roots=tuple(roots))


def hide_values(text: str, *, words: Collection[str], roots: Iterable[Path]) -> str:
    """A message without folders, and without quoted values that are not `words`.

    Args:
        text: A message for the terminal.
        words: What may stay.
        roots: Folders of the data, which may have blanks in their names; what follows
            one up to a file's name is left out with it.

    >>> hide_values("line 2: patient is 'Jane', in /d/J D/a.png", words=(), roots=())
    "line 2: patient is '...', in a.png"
    """
    for root in sorted({str(r) for r in roots} - {".", "/"}, key=len, reverse=True):
        text = re.sub(re.escape(root) + r"(?:[/\\](?:[^/\\\n]{1,80}[/\\])*)?", "", text)

    def value(match: re.Match[str]) -> str:
        mark, inside = match.group(0)[0], match.group(0)[1:-1]
        return match.group(0) if inside in words else f"{mark}...{mark}"

    text = _QUOTED.sub(value, text)
    return _NUMBER.sub(r"\1...", _FOLDERS.sub("", text))
