"""Hooks of the site: pages that are not files of docs/, and links that lead out of it.

The protocol, the architecture and the formats live beside the code. They are shown without a copy, under `reference/`;
the reference of the command line and of the configuration is made of the program itself. Links are written as they work
in the repository. Here each is checked against the repository and made to work in the site.
"""

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from raftlock.cli.main import main
from raftlock.server.config import SETTINGS, Setting

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
LOG = logging.getLogger("mkdocs.raftlock")  # under "mkdocs", so that --strict counts its warnings

BESIDE_THE_CODE = {
    "wire/PROTOCOL.md": "reference/protocol.md",
    "raftlock/ARCHITECTURE.md": "reference/architecture.md",
    "raftlock/storage/FORMAT.md": "reference/storage-format.md",
    "raftlock/audit/FORMAT.md": "reference/audit-format.md",
    "tests/PAINS.md": "reference/pains.md",
    "tests/RULES.md": "reference/rules.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "CHANGELOG.md": "reference/changelog.md",
}
"""Documents of the repository, and what they are called in the site."""
WIDTH = 88
"""Columns of a command's help: what a page shows without scrolling."""

_CODE_OR_LINK = re.compile(
    r"(?P<code>^```.*?^```$|`[^`\n]+`)"
    r"|(?P<picture>!?)\[(?P<text>(?:[^\[\]`]|`[^`]*`)*)\]\((?P<target>[^()\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the documents beside the code and the pages that are made of the program."""
    pages = {page: (ROOT / path).read_text() for path, page in BESIDE_THE_CODE.items()}
    pages["reference/commands.md"] = commands_page()
    pages["reference/configuration.md"] = configuration_page()
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: Any) -> str:
    """Make the links of a page work in the site."""
    here = page.file.src_uri
    known = {file.src_uri for file in files if file.inclusion is not InclusionLevel.EXCLUDED}
    return relink(markdown, repository_path(here), known)


def repository_path(page: str) -> str:
    """Return where a page's text stands in the repository."""
    beside = {made: path for path, made in BESIDE_THE_CODE.items()}
    return beside.get(page, f"{DOCS}/{page}")


def page_of(path: str) -> str:
    """Return the page that shows a document of the repository."""
    return BESIDE_THE_CODE.get(path, path.removeprefix(f"{DOCS}/"))


def relink(markdown: str, document: str, files: set[str]) -> str:
    """Rewrite the relative links of a document for the site, which has `files`; leave code as it is."""
    page = page_of(document)

    def replaced(match: re.Match[str]) -> str:
        if match["code"] is not None or not _is_relative(match["target"]):
            return match[0]
        path, _, anchor = match["target"].partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), path))
        if page_of(target) in files:
            link = posixpath.relpath(page_of(target), posixpath.dirname(page))
            return f"{match['picture']}[{match['text']}]({link}{'#' + anchor if anchor else ''})"
        if not (ROOT / target).exists():
            LOG.warning("%s links to %s, which is not there", document, target)
        return _named(match["text"], target)

    return _CODE_OR_LINK.sub(replaced, markdown)


def _is_relative(target: str) -> bool:
    return not target.startswith("#") and re.match(r"[a-z]+:", target) is None


def _named(text: str, path: str) -> str:
    """Name a file that is in the repository and not in the site."""
    is_its_name = f"/{path}".endswith("/" + text.strip("`/"))
    return f"`{path}`" if is_its_name else f"{text} (`{path}`)"


def commands_page() -> str:
    """Return the reference of the command line: each command's own help."""
    parts = [
        "# Commands\n\nThis is the help of each command, as `raftlock COMMAND --help` prints it.\n"
    ]
    parts += [f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps(main, "raftlock")]
    return "\n".join(parts)


def helps(
    command: click.Command, name: str, above: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the whole name and the help of a command and of all below it."""
    settings = {"max_content_width": WIDTH, "terminal_width": WIDTH, **command.context_settings}
    context = click.Context(command, info_name=name, parent=above, **settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from helps(below, each, context)


def configuration_page() -> str:
    """Return the reference of a node's configuration, from the list that the node itself reads it by."""
    head = """# Configuration

A node reads a TOML file (`raftlock server --config FILE`), variables and flags. A flag wins over a variable, a variable
over the file. `raftlock config example` prints a whole file with these words, and `raftlock config check --config FILE`
says what is wrong with one. A field that is not in this list is refused.

"""
    return head + "\n".join(_setting_section(setting) for setting in SETTINGS)


def _setting_section(setting: Setting) -> str:
    default = "required" if setting.default is None else f"default `{setting.default!r}`"
    return (
        f"## {setting.name}\n\n{setting.doc}\n\n"
        f"{setting.allowed[0].upper()}{setting.allowed[1:]}; {default}. Flag `{setting.option}`, variable"
        f" `{setting.variable}`.\n"
    )
