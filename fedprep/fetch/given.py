"""A file or folder that the user names (`--from PATH`), and what in it fills a role."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from fedprep.errors import FetchError
from fedprep.fetch.archives import is_archive
from fedprep.fetch.checksums import Digest, digest_of
from fedprep.fetch.places import ends_as, files_below, is_wild
from fedprep.schema import Progress, RawFile

__all__ = ["digest_of_folder", "files_given", "folder_given", "is_member", "is_renamed"]


def files_given(raw: RawFile, files: Sequence[Path]) -> list[Path]:
    """Returns the files that have an official name of a role, or are its one member, best first."""
    by_name = [p for c in raw.candidates for p in files if p.name == PurePosixPath(c.name).name]
    one = len(raw.members) == 1 and not is_wild(raw.members[0])
    if not by_name and (one or len(files) == 1):
        return [path for path in files if is_member(raw, path)]
    return list(dict.fromkeys(by_name))


def is_member(raw: RawFile, path: Path) -> bool:
    """Returns whether a file is one of the role's members itself, plain or as a single gz file."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    return any(ends_as(plain, member) for member in raw.members)


def is_renamed(raw: RawFile, given: Path, *, alone: bool) -> bool:
    """Returns whether a file of another name is taken for a role's.

    An archive is, where the role wants members of one; any file is, where it is the only one wanted.

    Args:
        raw: the role.
        given: the file.
        alone: whether no other role has to be filled.
    """
    if not given.is_file():
        return False
    return is_archive(given) if raw.members else alone


def folder_given(raw: RawFile, given: Path, files: Sequence[Path]) -> Path | None:
    """Returns the folder in which a role's members lie unpacked; None where there is none.

    Raises:
        FetchError: several folders may be meant.
    """
    found: dict[Path, set[str]] = {}
    for member in raw.members:
        for path in files:
            if ends_as(path, member):
                root = path.parents[len(PurePosixPath(member).parts) - 1]
                found.setdefault(root, set()).add(member)
    most = max(map(len, found.values()), default=0)
    roots = [root for root, members in found.items() if len(members) == most]
    stems = {PurePosixPath(candidate.name).stem for candidate in raw.candidates}
    for preferred in (
        roots,
        [r for r in roots if r.name in stems],
        [r for r in roots if r == given],
    ):
        if len(preferred) == 1:
            return preferred[0]
    if not roots:
        return None
    raise FetchError(
        f"{len(roots)} folders hold {', '.join(raw.members)}",
        where=", ".join(str(root) for root in roots[:5]),
        hint="give the one that is meant with --from PATH",
    )


def digest_of_folder(raw: RawFile, folder: Path, *, progress: Progress) -> Digest:
    """Returns the digest of a role's members in a folder: SHA-256 over their names and SHA-256s.

    It is equal for equal members, wherever the folder lies and whatever else is in it.
    """
    named = {folder / member for member in raw.members if (folder / member).is_file()}
    patterns = [m for m in raw.members if is_wild(m) and not (folder / m).is_file()]
    if patterns:
        below = files_below(folder)
        named |= {path for path in below if any(ends_as(path, wild) for wild in patterns)}
    paths = sorted(named)
    digests = [digest_of(path, md5=False, progress=progress) for path in paths]
    names = [path.relative_to(folder).as_posix() for path in paths]
    lines = (f"{d.sha256}  {name}\n" for d, name in zip(digests, names, strict=True))
    return Digest(n_bytes=sum(d.n_bytes for d in digests), sha256=_sha256(sorted(lines)))


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
