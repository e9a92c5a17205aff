"""The driver's side of the audit: what is on its way, and what was recorded, for the metrics."""

from raftlock.audit import Finished
from raftlock.locks import Applied
from raftlock.server.audit_jobs import RecordJob
from raftlock.server.auditing import SHOW_AFTER_US, Auditing
from tests.unit.audit.kit import records


def test_what_is_recorded_is_counted_when_its_job_is_done() -> None:
    """Entries, commands, finished segments and gaps count then; until then their bytes are under way."""
    auditing = Auditing(on=True)
    for recorded in records()[:20]:
        applied = Applied()
        applied.answers = [[(1, 0, True)] * recorded.commands]
        auditing.applied(recorded.entry, applied, commands=recorded.commands, version=1)
    under_way = auditing.under_way_size
    auditing.take_jobs(0)
    (job,) = [j for j in auditing.take_jobs(SHOW_AFTER_US) if isinstance(j, RecordJob)]
    before = (auditing.entries_recorded, auditing.commands_recorded, auditing.under_way_size)
    done = [Finished(1, 9, b"d" * 32), Finished(10, 12, b"d" * 32, "damage")]
    auditing.job_done(job, done)

    commands = sum(recorded.commands for recorded in records()[:20])
    assert before == (0, 0, under_way)
    assert under_way > sum(len(recorded.entry.data) for recorded in records()[:20])
    assert (auditing.entries_recorded, auditing.commands_recorded) == (20, commands)
    assert (auditing.recorded_index, auditing.under_way_size) == (20, 0)
    assert auditing.finished == {"segment": 1, "gap": 1}
