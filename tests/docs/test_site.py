"""The site builds without a warning, needs no other host, and says what the program says."""

import importlib.util
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from raftlock.cli.main import main

pytestmark = pytest.mark.xdist_group("site")
ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
LINK = re.compile(r"\]\((?!https?:|#)([^()\s#]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(CONFIG), "-d", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """Import the hooks of the site, which are no package."""
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def headings(page: Path) -> list[str]:
    """Return the second headings of a built page."""
    return re.findall(r'<h2 id="[^"]*">([^<]+)<a', page.read_text())


def commands(group: click.Group, path: str) -> list[str]:
    """Return the whole name of each command, a group before what is in it."""
    found = [path]
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        below = f"{path} {name}"
        found += commands(command, below) if isinstance(command, click.Group) else [below]
    return found


def test_every_document_has_a_page(site: Path, hooks: ModuleType) -> None:
    """What lies in docs/ and beside the code is a page; a document is not forgotten when it is added."""
    own = {p.relative_to(ROOT / "docs") for p in (ROOT / "docs").glob("*.md")}
    beside = {Path(page) for page in hooks.BESIDE_THE_CODE.values()}
    expected = {str(page.with_suffix(".html")) for page in own | beside}

    assert expected - {str(p.relative_to(site)) for p in site.rglob("*.html")} == set()


def test_the_site_needs_no_other_host(site: Path) -> None:
    """No page loads a script, a style, a font or a picture from elsewhere."""
    loads = re.compile(r'(?:\bsrc="|<link [^>]*href="|url\(|@import ")(https?:)?//[^")]+')
    found = {
        str(page.relative_to(site)): match[0]
        for page in [*site.rglob("*.html"), *(site / "assets").rglob("*.css")]
        if (match := loads.search(page.read_text())) is not None
    }

    assert found == {}


def test_each_command_has_its_help(site: Path) -> None:
    """The reference of the command line names every command, each once."""
    assert headings(site / "reference" / "commands.html") == commands(main, "raftlock")


def test_a_command_is_shown_with_its_own_flags(hooks: ModuleType) -> None:
    """The help of a command in a group is the one that the program prints."""
    printed = CliRunner().invoke(
        main, ["config", "check", "--help"], prog_name="raftlock", terminal_width=hooks.WIDTH
    )

    assert dict(hooks.helps(main, "raftlock"))["raftlock config check"] == printed.output.strip()


def test_each_field_of_the_configuration_is_there(site: Path) -> None:
    """The reference of the configuration has the fields that `raftlock config example` prints."""
    example = CliRunner().invoke(main, ["config", "example"]).output
    fields = re.findall(r"^(?:# )?(\w+) = ", example, re.MULTILINE)

    assert headings(site / "reference" / "configuration.html") == fields


@pytest.mark.parametrize(
    ("document", "written", "shown"),
    [
        ("docs/faq.md", "[p](../wire/PROTOCOL.md#rules)", "[p](reference/protocol.md#rules)"),
        ("wire/PROTOCOL.md", "[v](vectors/)", "v (`wire/vectors`)"),
        ("wire/PROTOCOL.md", "[vectors/](vectors/)", "`wire/vectors`"),
        ("raftlock/ARCHITECTURE.md", "[h](../docs/faq.md)", "[h](../faq.md)"),
        ("tests/RULES.md", "[a](#b) [c](https://d.e/f.md)", "[a](#b) [c](https://d.e/f.md)"),
        ("docs/faq.md", "`[p](../wire/PROTOCOL.md)`", "`[p](../wire/PROTOCOL.md)`"),
        ("docs/faq.md", "```\n[p](faq.md)\n```", "```\n[p](faq.md)\n```"),
        ("docs/faq.md", "[`a`](../Makefile)", "`a` (`Makefile`)"),
        ("docs/faq.md", "![a](images/fencing.svg)", "![a](images/fencing.svg)"),
    ],
)
def test_a_link_works_in_the_site(
    hooks: ModuleType, document: str, written: str, shown: str
) -> None:
    """A link of the repository leads to the page, or becomes the name of a file that has none."""
    files = {"faq.md", "images/fencing.svg", "reference/protocol.md"}

    assert hooks.relink(written, document, files) == shown


def test_a_link_to_nothing_fails_the_build(
    hooks: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    """A link to a file that is not in the repository is a warning, which --strict counts."""
    with caplog.at_level(logging.WARNING, logger="mkdocs"):
        hooks.relink("[x](../nothing.py)", "docs/faq.md", set())

    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        ("mkdocs.raftlock", "docs/faq.md links to nothing.py, which is not there")
    ]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_links_of_the_repository_lead_somewhere(document: str) -> None:
    """What the documents at the top link to is there."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)
    targets = set(LINK.findall(text))

    assert {target for target in targets if not (ROOT / target).exists()} == set()
