"""What was shipped as a pyarrow dataset: any engine that takes one (DuckDB, polars, pyarrow) reads through a Tier.

It owns the way from a path to a part of an object. It must not know an engine, nor where a Tier keeps what.
"""

import gc
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import clear_frames
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from raftlock.audit.manifest import Shipped
from raftlock.audit.parquet import SCHEMA
from raftlock.audit.query import RangeFile, ShippedRecords
from raftlock.audit.question import Cost
from raftlock.audit.tiers import Tier

LEAVE_S = 60.0
"""Longer than a call to a store may take."""
LOOK_S = 0.002


class Readers:
    """The Python objects that pyarrow's threads may be using.

    An engine that has enough rows leaves reads under way behind. A thread of pyarrow's that comes back to Python when
    the interpreter ends is ended in the midst of C++, which aborts the process. So nobody leaves before they are done:
    what a thread may still call, it holds, and what nobody holds is gone.
    """

    def __init__(self) -> None:
        self.over = False
        """Whether the answer is complete: a read that begins now helps nobody, and fails."""
        self._used: list[weakref.ref[object]] = []

    def add(self, used: object) -> None:
        """Note an object that is given to pyarrow."""
        self._used.append(weakref.ref(used))

    def leave(self, error: BaseException | None = None, limit_s: float = LEAVE_S) -> bool:
        """Wait until pyarrow holds none of them. The engine must have been closed. Return whether that came.

        `error` is on its way out: the reads in its traceback have ended, and hold nothing any more.
        """
        self.over = True
        while error is not None:
            clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        until_s = time.monotonic() + limit_s
        while any(ref() is not None for ref in self._used):
            gc.collect()
            if time.monotonic() > until_s:
                return False
            time.sleep(LOOK_S)
        return True


class PartFile(RangeFile):
    """An object that pyarrow's threads read."""

    def __init__(self, tier: Tier, one: Shipped, cost: Cost, readers: Readers) -> None:
        super().__init__(tier, one, cost)
        self._readers = readers
        readers.add(self)

    def read(self, size: int | None = -1) -> bytes:
        """See RangeFile."""
        if self._readers.over:
            raise OSError("the answer is complete")
        return super().read(size)


class TierFiles(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """A Tier as a file system of pyarrow's: to read the objects that it was given, and for nothing else."""

    def __init__(
        self, tier: Tier, objects: Sequence[Shipped], cost: Cost, readers: Readers
    ) -> None:
        self._tier, self._cost, self._readers = tier, cost, readers
        readers.add(self)
        self._objects = {one.key: one for one in objects}

    def get_type_name(self) -> str:
        """See pyarrow."""
        return "raftlock-tier"

    def normalize_path(self, path: str) -> str:
        """See pyarrow."""
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[Any]:
        """See pyarrow: known from the listing, so nothing is asked."""
        return [
            fs.FileInfo(path, fs.FileType.File, size=self._objects[path].size)
            if path in self._objects
            else fs.FileInfo(path, fs.FileType.NotFound)
            for path in paths
        ]

    def open_input_file(self, path: str) -> Any:
        """See pyarrow."""
        self._cost.objects_opened += 1
        file = PartFile(self._tier, self._objects[path], self._cost, self._readers)
        return pa.PythonFile(file, mode="r")

    def open_input_stream(self, path: str) -> Any:
        """See pyarrow."""
        return self.open_input_file(path)

    def _never(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("objects are read by their names, and never written")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _never
    delete_root_dir_contents = delete_file = move = copy_file = _never
    open_output_stream = open_append_stream = _never


def dataset_of(tier: Tier, archive: ShippedRecords, cost: Cost, readers: Readers) -> Any:
    """Return the objects whose hours fit, each index once, as a dataset. What is no Parquet fails when it is read."""
    objects = list(_each_once(archive))
    cost.size += sum(one.size for one in objects)
    files = fs.PyFileSystem(TierFiles(tier, objects, cost, readers))
    return ds.dataset(
        [one.key for one in objects], schema=SCHEMA, format="parquet", filesystem=files
    )


def dataset_of_file(path: Path) -> Any:
    """Return a file that a query wrote as a dataset."""
    return ds.dataset(path, schema=SCHEMA, format="parquet")


def _each_once(archive: ShippedRecords) -> Iterator[Shipped]:
    behind = 0
    for one in archive.objects():
        # Two objects of one range are what `verify` reports; an engine must not count their rows twice.
        if one.last > behind and archive.hour_fits(one):
            yield one
        behind = max(behind, one.last)
