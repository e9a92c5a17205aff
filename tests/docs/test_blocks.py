"""Every `python` and `sh` block of the documents runs on a cluster, or stands in a reviewed list with the reason."""

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("docs")]
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RUN = ("python", "sh")
EXCERPT = "# docs/examples/"

# (document, first line of the block): why it is not run.
NOT_RUN = {
    ("README.md", "make cluster    # three nodes on loopback, until Ctrl-C; data stays in .raftlock/"): "runs until Ctrl-C, on the default ports; CI runs both verbs",
    ("README.md", "raftlock server --node-id 1 --data-dir /var/lib/raftlock --client 10.0.0.1:7401 --peer 10.0.0.1:7411   # on each, with its own"): "three machines; tests/e2e starts and bootstraps nodes",
    ("README.md", "make sim                             # 200 seeds of a simulated cluster: crashes, partitions, torn writes, pauses"): "minutes of proofs and measurements; CI runs them",
    ("docs/compiled.md", "make compiled        # .venv-compiled, with the project installed in it; some minutes, needs a C compiler"): "minutes of a C compiler, and then a cluster until Ctrl-C",
    ("docs/compiled.md", "HATCH_BUILD_HOOK_ENABLE_CUSTOM=true .venv-compiled/bin/python -m pip wheel --no-build-isolation --no-deps --wheel-dir dist ."): "needs the build before it",
    ("docs/http.md", "$ H=http://127.0.0.1:7421/api/v1/locks"): "a transcript with the tokens of one run; tests/e2e/test_http.py sends the same requests",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a document."""

    document: str
    line: int
    language: str
    text: str
    expected: str | None
    """What a `text` block right behind it says of its output."""

    @property
    def key(self) -> tuple[str, str]:
        """Return what the list of those that are not run names it by."""
        return self.document, self.text.splitlines()[0]


def blocks_of(document: str, source: str) -> list[Block]:
    """Return all fenced blocks, in order."""
    found: list[Block] = []
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", source, re.MULTILINE | re.DOTALL)
    matches = list(fences)
    for match, after in zip_longest(matches, matches[1:]):
        between = "" if after is None else source[match.end() : after.start()]
        belongs = after is not None and after[1] == "text" and not between.strip()
        found.append(
            Block(
                document=document,
                line=source.count("\n", 0, match.start()) + 1,
                language=match[1],
                text=match[2],
                expected=after[2] if belongs and after is not None else None,
            )
        )
    return found


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    block
    for path in DOCUMENTS
    for block in blocks_of(str(path.relative_to(ROOT)), path.read_text())
    if block.language in RUN
]


def without_numbers(text: str) -> str:
    """Return output with tokens made equal: they differ from run to run."""
    return re.sub(r"\d{10,}", "TOKEN", text).strip()


def run_shell(block: Block, cluster: Cluster, folder: Path) -> str:
    """Run a block as a person would who has raftlock on the PATH. Return what it printed."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAFTLOCK_ENDPOINTS": ",".join(cluster.endpoints),
        "RAFTLOCK_DATA_DIR": str(cluster.folder / "node-1"),
    }
    script = "set -eu\n" + block.text.replace(".venv/bin/", "")
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(block: Block, cluster: Cluster) -> str:
    """Run a block; `await` may stand at its top level. Return what it printed."""
    text = block.text
    for node_id in cluster.ids:
        text = text.replace(f"127.0.0.1:{7400 + node_id}", cluster.endpoint(node_id))
    code = compile(
        text, f"{block.document}:{block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    is_async = bool(code.co_flags & inspect.CO_COROUTINE)
    names: dict[str, Any] = {
        "order": SimpleNamespace(),
        "charge": charge_async if is_async else charge,
    }
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        ran = eval(code, names)  # the block's own text
        if is_async:
            asyncio.run(ran)
    return printed.getvalue()


def charge(order: object, *, fencing_token: int) -> None:
    """Stand for what the reader does under the lock."""
    assert fencing_token > 0


async def charge_async(order: object, *, fencing_token: int) -> None:
    """Stand for what the reader does under the lock."""
    charge(order, fencing_token=fencing_token)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.document}:{b.line}")
def test_a_block_does_what_it_says(block: Block, shared_cluster: Cluster, tmp_path: Path) -> None:
    """A block of an example stands in the example; any other runs without an error and prints what is shown."""
    if block.key in NOT_RUN:
        pytest.skip(NOT_RUN[block.key])
    if block.text.startswith(EXCERPT):
        head, _, excerpt = block.text.partition("\n")
        assert excerpt in (ROOT / head.removeprefix("# ")).read_text()
        return
    printed = (
        run_shell(block, shared_cluster, tmp_path)
        if block.language == "sh"
        else run_python(block, shared_cluster)
    )

    if block.expected is not None:
        assert without_numbers(printed) == without_numbers(block.expected)


def test_the_list_of_what_is_not_run_names_blocks_that_are_there() -> None:
    """A block that was changed or removed is taken off the list."""
    assert set(NOT_RUN) - {block.key for block in BLOCKS} == set()


def test_a_document_may_have_no_block() -> None:
    """A document of words alone has no blocks."""
    assert blocks_of("d", "words\n") == []


def test_the_blocks_are_found() -> None:
    """Blocks, their languages, and the output that belongs to them are told apart."""
    source = "a\n```sh\nx\n```\n\n```text\nout\n```\nb\n```python\ny\n```\nc\n```text\nno\n```\n"

    assert [(b.line, b.language, b.text, b.expected) for b in blocks_of("d", source)] == [
        (2, "sh", "x\n", "out\n"),
        (6, "text", "out\n", None),
        (10, "python", "y\n", None),
        (14, "text", "no\n", None),
    ]
