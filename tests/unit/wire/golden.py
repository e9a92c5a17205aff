"""The frames that a release's vectors held, by their hashes: `python -m tests.unit.wire.golden v0.2` notes those of today.

It refuses where a release has its list: that is never made again.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

from tests.unit.wire import vectors

GOLDEN = Path(__file__).with_name("golden")


def frames() -> dict[str, str]:
    """Return each vector of wire/vectors, as file and name, and the SHA-256 of its bytes."""
    found: dict[str, str] = {}
    for file in sorted(vectors.FILES):
        times: Counter[str] = Counter()
        for vector in vectors.load(file):
            times[vector["name"]] += 1
            again = f" ({times[vector['name']]})" if times[vector["name"]] > 1 else ""
            digest = hashlib.sha256(bytes.fromhex(vector["hex"])).hexdigest()
            found[f"{file}: {vector['name']}{again}"] = digest
    return found


def lost(release: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the frames of a release that are not there any more, or are others."""
    return [name for name, digest in release.items() if now.get(name) != digest]


def note(tag: str, below: Path = GOLDEN) -> int:
    """Note the frames of today under a release's tag. Return the exit code."""
    path = below / f"{tag}.json"
    try:
        with path.open("x") as file:
            file.write(json.dumps(frames(), indent=1) + "\n")
    except FileExistsError:
        print(f"{path} is there: it is never made again", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(note(sys.argv[1]))
