"""Where shipped objects are: what the audit needs of a store, and a directory that is one.

An object is written once and never changed. It must not know what is in it.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit


class TierUnavailable(Exception):
    """The store did not answer, or asked to come back later: the same call may work another time."""


class TierRefused(Exception):
    """The store answered, and will answer the same again: no such bucket, no permission, a request it does not know."""


class BadTier(ValueError):
    """An address that names no tier."""


class Listed(NamedTuple):
    """An object of a listing."""

    key: str
    size: int


class Place(NamedTuple):
    """An address of a tier."""

    scheme: str
    bucket: str
    prefix: str
    """Ends with a slash unless it is empty; of a directory, its path."""


class Tier(Protocol):
    """A store of objects. Each call may raise TierUnavailable and TierRefused."""

    url: str

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object, durable when this returns. Return False, and change nothing, if there is one of that name.

        A store with versions may return True for a second object of a name: `hashes` then has both.
        """

    def hashes(self, key: str) -> frozenset[str]:
        """Return the SHA-256 of each version of an object, in hex, as noted at its writing; empty if there is none."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """Return the objects whose keys begin with `prefix` and come behind `after`, in the order of their keys."""

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """Return an object's bytes, or a part of them. Raise FileNotFoundError if there is none."""


def sha256_of(data: bytes) -> str:
    """Return the hash that goes with an object."""
    return hashlib.sha256(data).hexdigest()


def parse_place(url: str) -> Place:
    """Return what an address names. Raise BadTier for one that is none."""
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise BadTier(f"{url}: a tier's address has no ? and no #")
    if parts.scheme == "s3" and parts.netloc:
        prefix = parts.path.strip("/")
        return Place("s3", parts.netloc, f"{prefix}/" if prefix else "")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return Place("file", "", unquote(parts.path))
    raise BadTier(f"{url!r} is no tier: use s3://BUCKET/PREFIX or file:///ABSOLUTE/DIRECTORY")


class FileTier:
    """A directory as a tier."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()

    def put_new(self, key: str, data: bytes) -> bool:
        """See Tier. A link is made to a synced temporary file: it appears whole, or not."""
        target = self.root / key
        try:
            self._make_directory(target.parent)
            temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            _sync_directory(target.parent)
        except OSError as error:
            raise TierUnavailable(f"{target}: {error.strerror or error}") from error
        return True

    def hashes(self, key: str) -> frozenset[str]:
        """See Tier. A directory has no notes: the file is read."""
        with suppress(FileNotFoundError):
            return frozenset((sha256_of(self.read(key)),))
        return frozenset()

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """See Tier."""
        # Only the directory that the prefix names is walked, not all days.
        below = self.root / prefix.rpartition("/")[0]
        try:
            found = sorted(
                Listed(path.relative_to(self.root).as_posix(), path.stat().st_size)
                for path in below.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            )
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise TierUnavailable(f"{below}: {error.strerror or error}") from error
        yield from (one for one in found if one.key.startswith(prefix) and one.key > after)

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """See Tier."""
        try:
            with (self.root / key).open("rb") as file:
                file.seek(start)
                return file.read(-1 if size is None else size)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise TierUnavailable(f"{self.root / key}: {error.strerror or error}") from error

    def _make_directory(self, path: Path) -> None:
        missing = [p for p in (path, *path.parents) if not p.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for made in missing:
            _sync_directory(made.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
