"""The records that nodes have, asked of them over the network: which nodes, and what to say of those that do not answer."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

import click

from raftlock.audit.question import Question
from raftlock.audit.remote import Remote
from raftlock.audit.union import Span
from raftlock.cli.common import EXIT_UNAVAILABLE, EXIT_USAGE, fail, parse_endpoints
from raftlock.client import AuditPage, AuditQuestion, RaftlockError
from raftlock.client.node_pages import NodePages
from raftlock.client.records import audit_request
from raftlock_wire.errors import BadField


class AskedNode:
    """A node as a source of the union. Once it has not answered, or refused, it is not asked again."""

    def __init__(self, pages: NodePages) -> None:
        self._pages = pages
        self.trouble = ""
        """Why it told nothing, or not all."""

    def spans(self, question: Question, *, after: int, before: int) -> Iterator[Span]:
        """See Hot. What goes wrong here leaves the rest to the nodes after this one."""
        if self.trouble:
            return
        try:
            yield from Remote(self.ask).spans(question, after=after, before=before)
        except RaftlockError as error:
            text = str(error)
            where = self._pages.address
            self.trouble = text if text.startswith(where) else f"{where}: {text}"

    def ask(self, question: Question, index: int, position: int) -> AuditPage:
        """Ask for a page. Raise RaftlockError."""
        return self._pages.page(to_ask(question), from_index=index, from_position=position)


class AnyNode:
    """Whichever node answers: the next one in turn takes over from one that does not."""

    def __init__(self, nodes: Sequence[AskedNode]) -> None:
        self._nodes = list(nodes)

    def ask(self, question: Question, index: int, position: int) -> AuditPage:
        """Ask for a page. Raise what the last node did, when none answers."""
        for _ in self._nodes[1:]:
            try:
                return self._nodes[0].ask(question, index, position)
            except RaftlockError:
                self._nodes.append(self._nodes.pop(0))
        return self._nodes[0].ask(question, index, position)


def open_nodes(endpoints: str, timeout: float, cluster_id: str | None = None) -> list[AskedNode]:
    """Return the nodes of `--endpoints`; with a cluster's id one of another cluster refuses."""
    return [
        AskedNode(NodePages(address, timeout_s=timeout, cluster_id=cluster_id))
        for address in parse_endpoints(endpoints)
    ]


def check_question(question: Question) -> None:
    """End with what is wrong with a question that no node would take."""
    try:
        audit_request(to_ask(question), limit=1)
    except BadField as error:
        fail(f"--{error}", EXIT_USAGE)


def to_ask(question: Question) -> AuditQuestion:
    """Return the question in the client's words."""
    return AuditQuestion(**{f.name: getattr(question, f.name) for f in fields(AuditQuestion)})


def say_trouble(nodes: Sequence[AskedNode]) -> None:
    """Say which nodes did not tell all they have; end when none did: an answer must not look whole when it is not."""
    troubled = [node.trouble for node in nodes if node.trouble]
    if nodes and len(troubled) == len(nodes):
        hint = "--endpoints takes the nodes' addresses, --data a node's directory, --from what was shipped"
        fail(f"no node told its records: {'; '.join(troubled)} ({hint})", EXIT_UNAVAILABLE)
    for trouble in troubled:
        click.echo(f"raftlock: {trouble}: the other nodes were asked", err=True)
