"""Client on a real socket, against a node that does as it is told: threads, losses, interrupts, forks."""

import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from raftlock.client import (
    AsyncClient,
    Client,
    ClientClosed,
    LockLost,
    OutcomeUnknown,
    SyncLock,
    Unavailable,
)
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.client.fake_node import FakeNode

RENEWED_S = 3.0
"""The ttl of locks that must not be lost: a machine that stalls for less than two thirds of it changes nothing."""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def node() -> Iterator[FakeNode]:
    """A node that grants everything."""
    running = FakeNode()
    yield running
    running.close()


@pytest.fixture
def client(node: FakeNode) -> Iterator[Client]:
    """A client of it."""
    with Client([node.endpoint], owner="me") as running:
        yield running
        node.silent = False


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run a function in a thread, and keep what it returns or raises."""
    got: list[object] = []

    def run() -> None:
        try:
            got.append(function())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            got.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, got


def in_fork(function: Callable[[], object]) -> str:
    """Run a function in a forked child. Return what it returns, as text."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        text = "nothing"
        try:
            text = repr(function())
        except BaseException as error:  # noqa: BLE001 - nothing of the child may reach the parent's tests
            text = repr(error)
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return text


def test_it_renews_while_its_user_is_busy(client: Client, node: FakeNode) -> None:
    """A lock is renewed by the client's own thread: its user calls nothing meanwhile."""
    with client.lock("r", ttl=RENEWED_S) as lock:
        node.wait_for(Op.RENEW, 3)

        assert (lock.held, lock.lost.is_set()) == (True, False)
    assert [r[2:] for r in node.seen(Op.RELEASE)] == [("r", lock.token)]


def test_a_lock_is_lost_at_its_deadline_and_the_block_says_so(
    client: Client, node: FakeNode
) -> None:
    """With no answer the lock is lost at the deadline; the body goes on, and its end raises LockLost."""
    began = time.monotonic()
    after: list[object] = []

    def body() -> None:
        with client.lock("r", ttl=0.3) as lock:
            node.silent = True
            lock.lost.wait(60)
            after.append(time.monotonic() - began >= 0.25)
            after.append((lock.held, lock.remaining, lock.lost.is_set()))

    with pytest.raises(LockLost, match="deadline passed"):
        body()

    assert after == [True, (False, 0.0, True)]


def test_the_clock_decides_when_the_clients_thread_is_stuck(client: Client, node: FakeNode) -> None:
    """A lock past its deadline is not believed and its block raises LockLost, though the renewing thread hangs."""
    go_on = threading.Event()

    async def hang(_: AsyncClient) -> None:
        go_on.wait(60)

    def body() -> None:
        with client.lock("r", ttl=0.2) as lock:
            threads.append(in_thread(lambda: client._ask(hang))[0])
            while lock.held:
                time.sleep(0.01)
            told.append(lock.lost.is_set())

    threads: list[threading.Thread] = []
    told: list[bool] = []
    with pytest.raises(LockLost, match="deadline passed"):
        body()
    go_on.set()
    threads[0].join()

    assert told == [False]


def test_an_error_of_the_body_is_the_cause_of_its_loss(client: Client, node: FakeNode) -> None:
    """A body that fails after it lost its lock raises LockLost with its own error as the cause."""

    def body() -> None:
        with client.lock("r", ttl=0.2) as lock:
            node.silent = True
            lock.lost.wait(60)
            raise KeyError("x")

    with pytest.raises(LockLost) as caught:
        body()

    assert repr(caught.value.__cause__) == "KeyError('x')"


def test_an_error_of_the_body_goes_through_and_releases(client: Client, node: FakeNode) -> None:
    """A body that fails while it holds the lock releases it, and its error goes through."""
    with pytest.raises(KeyError), client.lock("r"):
        raise KeyError("x")

    assert len(node.seen(Op.RELEASE)) == 1


def test_a_callback_that_blocks_holds_up_nothing(
    client: Client, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callbacks run in a thread of their own: while one blocks the other locks are renewed; an error stops no other."""
    called, go_on = threading.Event(), threading.Event()
    news: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda hook: news.put(str(hook.exc_value)))
    doomed, kept = (
        client.acquire("doomed", ttl=0.2, renew=False),
        client.acquire("kept", ttl=RENEWED_S),
    )
    assert doomed is not None
    assert kept is not None

    def block(lock: SyncLock) -> None:
        called.set()
        go_on.wait(60)
        raise OSError("reported by threading.excepthook")

    doomed.on_lost(block)
    doomed.on_lost(lambda lock: news.put(lock.resource))
    called.wait(60)
    node.wait_for(Op.RENEW, len(node.seen(Op.RENEW)) + 2)
    held = kept.held
    go_on.set()

    assert held
    # The next callback begins in a new thread, while the old one still reports.
    assert {news.get(timeout=60), news.get(timeout=60)} == {
        "reported by threading.excepthook",
        "doomed",
    }


def test_a_callback_on_a_lost_lock_is_called_at_once(client: Client, node: FakeNode) -> None:
    """Who listens too late is told at once, in its own thread."""
    lock = client.acquire("r", ttl=0.1, renew=False)
    assert lock is not None
    lock.lost.wait(60)
    where: list[int] = []

    lock.on_lost(lambda lost: where.append(threading.get_ident()))

    assert where == [threading.get_ident()]


def test_many_threads_share_a_client(client: Client, node: FakeNode) -> None:
    """32 threads acquire and release over one connection and one session; each gets its own token."""
    tokens: list[int] = []

    def work(number: int) -> None:
        for turn in range(20):
            with client.lock(f"r:{number}:{turn}", ttl=30) as lock:
                tokens.append(lock.token)

    threads = [in_thread(lambda n=n: work(n)) for n in range(32)]  # type: ignore[misc]
    for thread, _ in threads:
        thread.join()

    assert [got for _, got in threads] == [[None]] * 32
    assert len(set(tokens)) == 32 * 20
    assert (len(node.seen(Op.HELLO)), len(node.seen(Op.OPEN_SESSION))) == (1, 1)


def test_an_interrupted_acquire_leaves_nothing(client: Client, node: FakeNode) -> None:
    """A signal handler that raises (Ctrl-C) ends the wait at once, and the acquire is cancelled."""
    node.queues = True

    def interrupt() -> None:
        node.wait_for(Op.ACQUIRE)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter, _ = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.acquire("r", wait=60)
    interrupter.join()
    node.wait_for(Op.CANCEL)

    assert [r[3:] for r in node.seen(Op.CANCEL)] == [r[3:5] for r in node.seen(Op.ACQUIRE)]


def test_what_an_interrupted_call_yields_is_given_back(client: Client, node: FakeNode) -> None:
    """A lock that was granted, though its waiter was interrupted before it heard of that, is released."""
    granted, interrupted = threading.Event(), threading.Event()
    engine = client._running()

    async def slow() -> object:
        lock = await engine.client.acquire("r", ttl=30)
        granted.set()
        # The loop is busy: neither the grant nor the interrupt can go further before both are there.
        interrupted.wait(60)
        return lock

    def interrupt() -> None:
        granted.wait(60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter, _ = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.run(slow, lambda lock: lock.release_later())  # type: ignore[attr-defined]
    interrupted.set()
    interrupter.join()
    node.wait_for(Op.RELEASE)

    assert len(node.seen(Op.ACQUIRE)) == 1


def test_close_ends_what_waits(node: FakeNode) -> None:
    """close() closes the session, ends the waiting acquire of another thread, and refuses later calls."""
    client = Client([node.endpoint])
    with client.lock("held"):
        node.queues = True
        waiting, got = in_thread(lambda: client.acquire("queued", wait=60))
        node.wait_for(Op.ACQUIRE, 2)
        client.close()
        waiting.join()

    with pytest.raises(ClientClosed):
        client.get("r")
    assert got == [None]
    assert len(node.seen(Op.CLOSE_SESSION)) == 1
    client.close()


def test_wrong_arguments_are_refused_at_once() -> None:
    """What cannot be is said where it is written, not when the client is first used."""
    for arguments, problem in (
        ({"endpoints": []}, "endpoints: at least one"),
        ({"endpoints": ["here"]}, "endpoints: 'here' is not host:port"),
        ({"session_ttl": 0.5}, "session_ttl: 0.5 is not within 1 to 300 seconds"),
        ({"owner": "x" * 257}, "owner"),
    ):
        with pytest.raises(ValueError, match=problem):
            Client(**arguments)  # type: ignore[arg-type]


@forks
def test_a_forked_child_has_no_lock_of_its_parent(client: Client, node: FakeNode) -> None:
    """In the child every handle is lost, its block raises LockLost, and releasing it does nothing to the parent's lock."""

    def child() -> object:
        lock.release()
        return lock.held, lock.lost.is_set(), lock.remaining, lock.overtaken, lock.why_lost

    with client.lock("r", ttl=RENEWED_S) as lock:
        text = in_fork(child)
        node.wait_for(Op.RENEW, len(node.seen(Op.RENEW)) + 2)

        assert (text, lock.held, node.seen(Op.RELEASE)) == (
            '(False, True, 0.0, True, "it is its parent\'s: this process was forked")',
            True,
            [],
        )


@forks
def test_a_forked_child_opens_its_own_session(client: Client, node: FakeNode) -> None:
    """The child's client uses a connection and session of its own; the parent's go on, untouched."""

    def child() -> object:
        with client.lock("of-the-child", ttl=30) as lock:
            return lock.held

    with client.lock("of-the-parent", ttl=RENEWED_S) as lock:
        text = in_fork(child)
        node.wait_for(Op.RENEW, len(node.seen(Op.RENEW)) + 2)
        kept = lock.held

    assert (text, kept) == ("True", True)
    assert [request[2] for request in node.seen(Op.ACQUIRE)] == [1, 2]
    assert node.connections_with(Op.OPEN_SESSION) == {0, 1}
    assert node.connections_with(Op.RENEW) == {0}


@forks
def test_a_child_does_not_keep_its_parents_connection(node: FakeNode) -> None:
    """When the parent is done the node sees its connection end, though a forked child lives on."""
    client = Client([node.endpoint])
    assert client.acquire("r") is not None
    hold, let_go = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(let_go)
        os.read(hold, 1)
        os._exit(0)
    client.close()
    node.wait_for_end(0)
    os.close(let_go)
    os.waitpid(pid, 0)
    os.close(hold)


@forks
def test_a_fork_amid_calls_of_other_threads_does_not_block_the_child(
    client: Client, node: FakeNode
) -> None:
    """However the parent's threads stand at the fork, the child's client works."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            client.check("r", 1)

    threads = [in_thread(busy)[0] for _ in range(4)]
    try:
        texts = [in_fork(lambda: client.check("r", 1)) for _ in range(10)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert texts == ["True"] * 10


def test_a_leader_that_was_stopped_is_left_for_another_node(node: FakeNode) -> None:
    """It takes connections and answers none: it is asked how it is, left, and not called again first."""
    follower = FakeNode()
    follower.leader = node
    try:
        with Client([follower.endpoint, node.endpoint]) as client:
            before = client.check("r", 1)
            node.wait_for(Op.HELLO)
            node.silent = True
            after = client.check("r", 1)
    finally:
        follower.close()

    assert (before, after) == (True, True)
    assert (len(node.seen(Op.HELLO)), len(node.seen(Op.NODE_STATUS))) == (1, 1)


def test_an_acquire_that_was_never_sent_says_so() -> None:
    """Where no node listens an acquire ends as Unavailable, which names the address and why; nothing is left of it."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    with Client([address], request_timeout=0.1) as client:
        with pytest.raises(Unavailable, match=f"{address}: .*refused"):
            client.acquire("r")
        with pytest.raises(Unavailable, match=f"{address}: .*refused"):
            client.get("r")


def test_a_renewal_of_unknown_outcome_is_not_called_lost(node: FakeNode, client: Client) -> None:
    """A lease's own answer may be UNKNOWN where the request's is OK: that is no "not held" (guarantee 9)."""
    held = {}
    for status in (Status.OK, Status.NOT_HELD, Status.ENDING):
        node.renewals = status
        held[status] = client.renew_token("r", 7)

    node.renewals = Status.UNKNOWN
    with pytest.raises(OutcomeUnknown, match="whether 'r' was renewed is not known"):
        client.renew_token("r", 7)

    assert held == {Status.OK: True, Status.NOT_HELD: False, Status.ENDING: False}
