"""Connections to PostgreSQL: a bounded pool, transactions with retries, and faults as the protocol's errors."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import structlog

from tasker.engines.postgres.known_types import knowing_connection
from tasker.engines.postgres.pooler import (
    carries_statements,
    check_same_database,
    check_session,
    is_direct,
    plain_connection,
)
from tasker.engines.postgres.transaction import Connection, Told, Transaction, tell_everybody
from tasker.errors import ConfigError, RequestError, Unavailable

T = TypeVar("T")
OnAcquire = Callable[[Connection], Awaitable[None]]

ANSWER_WITHIN = 5.0
"""Time limit in seconds of a statement, a connect, or a wait for the pool; after it, the database is unavailable."""
_AGAIN_FOR = 4.0
"""Seconds for which work is retried after its connection broke."""
_PAUSE = 0.1
_NOT_FOR_READS = 3
"""Connections reserved for claims and writes."""
_FILL_AFTER = 1.0
"""Seconds after its start at which a process opens the rest of its connections; short commands end before."""
_SLOW = 1.0
"""Seconds after which an answer counts as a break in the contact: leases went on expiring meanwhile."""

_END_FROZEN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'tasker' AND datname = current_database() AND usename = current_user
    AND state = 'active' AND wait_event = 'ClientRead' AND query_start < clock_timestamp() - $1::interval
"""
"""Ends sessions whose process stopped after it had a statement prepared, and before it ran it.

The server takes them neither for idle nor for running a statement, so no time limit ends them; in a transaction they
keep its locks. (PostgreSQL 17 has transaction_timeout.)
"""
_FROZEN_AFTER = timedelta(seconds=15)
"""How long a session may stand so; the same as for one that is idle in a transaction."""

CONFLICTS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.LockNotAvailableError,
)
"""The database rolled the work back, and the same work may succeed at once."""
LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
)
"""The last transaction may have been stored or not: only work that is safe to repeat is retried."""
REFUSED = (
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalServerError,
    asyncpg.InvalidAuthorizationSpecificationError,
)
"""The database answers but cannot write: a full disk, a standby, a statement that took too long."""

_log = structlog.get_logger(__name__)


_OF_CONNECTIONS = ("application_name", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
"""Settings that no transaction can have for itself."""
_UNPREPARED = {"statement_cache_size": 0}


def session_settings(more: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of every session: nothing may hang for ever, and durability is not left to a default."""
    return {
        "application_name": "tasker",
        "statement_timeout": "10s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "15s",
        "synchronous_commit": "on",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "timezone": "UTC",
        "jit": "off",  # plans are small: compiling them costs more than running them
        **more,
    }


async def prepare(connection: Connection) -> None:
    """Have the connection encode and decode UUIDs as Python's own."""
    await connection.set_type_codec(
        "uuid", schema="pg_catalog", format="binary", encoder=_uuid_bytes, decoder=lambda data: UUID(bytes=bytes(data))
    )


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


class Contact:
    """How long the database has answered without a break.

    After a break every lease may look expired although its worker lives, so for a while no lease is ended.
    """

    def __init__(self) -> None:
        self._since = float("-inf")

    def broken(self) -> None:
        self._since = time.monotonic()

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Count a slow answer as a break: while the database stood still, no worker could extend its lease."""
        asked = time.monotonic()
        yield
        if time.monotonic() - asked > _SLOW:
            self.broken()

    def lasts(self, at_least: timedelta) -> bool:
        return time.monotonic() - self._since >= at_least.total_seconds()


class Connections:
    """The pool of one process, and its connections outside the pool.

    url: where the pool leads, maybe through a pooler in transaction mode. listen_url: leads to the server itself, for
    what needs a session: to listen, to hold locks, to migrate; unset: `url`.
    journal_table: where the journal of transactions goes.
    on_acquire: called with each connection that is taken, before its use.
    Raises Unavailable (503) where the database does not answer, RequestError as the work itself does.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int,
        listen_url: str | None = None,
        journal_table: str = "",
        settings: Mapping[str, str] | None = None,
        on_acquire: OnAcquire | None = None,
    ) -> None:
        self.url = url
        self._listen_url = listen_url or url
        self.sender = secrets.token_hex(6)
        """The name of this process in notifications."""
        self._journal_table = journal_table
        self.on_commit: Callable[[Transaction], None] = lambda _: None
        """Called with each transaction that is durable."""
        self.before_commit: Callable[[Transaction], Awaitable[None]] = _nothing_more
        """Called with each transaction that has `family_work`, once its own work is done."""
        self.write_counts: Callable[[Transaction], Awaitable[None]] = _no_groups
        """Writes what a transaction has gathered about groups, as the last thing before COMMIT."""
        self.route: Callable[[Mapping[str, int]], Told] = tell_everybody
        """Says who is told of a transaction's new tasks; see Transaction."""
        self.size = size
        self.settings = session_settings(settings or {})
        self._local = ""
        """Statements that give a transaction the settings of a session, where a pooler keeps none."""
        self.contact = Contact()
        self._on_acquire = on_acquire
        self._reading = asyncio.Semaphore(max(1, size - _NOT_FOR_READS))
        self._class = knowing_connection()
        self._pool: Any = None
        self._options: dict[str, Any] = {}
        """Those of the pool's connections."""
        self._filling: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Raises ConfigError when the database cannot be reached or refuses us."""
        try:
            self._options = await self._find_options()
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=1,
                max_size=self.size,
                max_inactive_connection_lifetime=0,  # a new one costs more than a burst of tasks on an open one
                connection_class=self._class,
                init=prepare,
                setup=self._on_acquire,
                reset=_leave_as_it_is,
                **self._options,
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise cannot_connect(error) from error
        self._filling = asyncio.create_task(self._fill())

    async def _find_options(self) -> dict[str, Any]:
        """Return the options of the pool's connections. Raises ConfigError if the two URLs do not belong together.

        Behind a pooler each transaction brings its settings along; statements stay prepared only if it carries them.
        """
        options = {"timeout": ANSWER_WITHIN, "command_timeout": ANSWER_WITHIN, "server_settings": self.settings}
        if self._listen_url == self.url:
            return options
        listening = await self.connect()
        try:
            async with plain_connection(self.url, ANSWER_WITHIN) as connection:
                await check_same_database(connection, listening)
                if await is_direct(connection):
                    return options
                carried = {} if await carries_statements(connection) else _UNPREPARED
        finally:
            await listening.close()
        local = {name: value for name, value in self.settings.items() if name not in _OF_CONNECTIONS}
        self._local = "".join(f"SET LOCAL {name} = '{value}';" for name, value in local.items())
        return options | {"server_settings": {"application_name": self.settings["application_name"]}} | carried

    async def _stop_preparing(self) -> None:
        """Prepare no more statements: a migration has changed what some return, and a pooler keeps the older ones."""
        self._pool.set_connect_args(self.url, **self._options | _UNPREPARED)
        await self._pool.expire_connections()

    async def _fill(self) -> None:
        """Open all connections, so that no burst has to wait for them."""
        await asyncio.sleep(_FILL_AFTER)
        await asyncio.gather(*(self._touch() for _ in range(self.size)), return_exceptions=True)

    async def _touch(self) -> None:
        async with self.taken():
            pass

    async def close(self) -> None:
        for task in (self._filling, self._ending):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    await pool.close()
            except (*LOST, asyncpg.PostgresError):
                pool.terminate()

    async def connect(self, more: Mapping[str, str] | None = None) -> Connection:
        """Return a connection outside the pool, with a session of its own: to listen, or to migrate.

        more: settings of this session.
        """
        settings = {**self.settings, **(more or {})}
        connection = await asyncpg.connect(
            self._listen_url, timeout=ANSWER_WITHIN, server_settings=settings, connection_class=self._class
        )
        try:
            await prepare(connection)
            await self.prepare_use(connection)
        except BaseException:  # also a cancellation: no one else can close it
            connection.terminate()
            raise
        return connection

    async def prepare_use(self, connection: Connection) -> None:
        """Do before each use of a connection outside the pool what the pool does before each use of its own."""
        if self._on_acquire is not None:
            await self._on_acquire(connection)

    async def connect_checked(self) -> Connection:
        """Do what `connect` does. Raises ConfigError if that is impossible, or a pooler takes the session away."""
        variable = "TASKER_DATABASE_URL" if self._listen_url == self.url else "TASKER_LISTEN_URL"
        try:
            connection = await self.connect()
            try:
                await check_session(connection, self._listen_url, variable, ANSWER_WITHIN)
            except BaseException:
                connection.terminate()
                raise
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise cannot_connect(error, variable) from error
        return connection

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[Connection]:
        """Take a connection out of the pool for a moment. A broken one does not go back."""
        if self._pool is None:
            raise Unavailable("the store is closed")
        connection = await self._pool.acquire(timeout=ANSWER_WITHIN)
        try:
            yield connection
        except BaseException as error:
            with contextlib.suppress(asyncpg.InterfaceError):  # the pool has dropped it already
                if isinstance(error, (*LOST, asyncio.CancelledError)) or connection.is_in_transaction():
                    connection.terminate()
            raise
        finally:
            await self._pool.release(connection)

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a client's query; the number at a time is limited, so that claims and writes always find a connection."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._reading.acquire()
        except TimeoutError as error:
            raise self._away(error) from error
        try:
            return await self.look(query)
        finally:
            self._reading.release()

    async def look(self, query: Callable[[Connection], Awaitable[T]], *, is_alone: bool = False) -> T:
        """Run a query that changes nothing; once more if its connection turns out to be dead.

        is_alone: whether it needs no transaction around it, even through a pooler.
        """
        for final in (False, True):
            try:
                async with self.taken() as connection:
                    if not self._local or is_alone:
                        return await query(connection)
                    async with _within(connection, f"BEGIN;{self._local}"):
                        return await query(connection)
            except LOST as error:
                self.contact.broken()
                if final or isinstance(error, TimeoutError):
                    raise self._away(error) from error
            except asyncpg.InvalidCachedStatementError:
                if final or not self._local:
                    raise
                await self._stop_preparing()
            except REFUSED as error:
                raise self._away(error) from error
        raise AssertionError

    async def repeat(self, query: Callable[[Connection], Awaitable[T]], *, is_alone: bool = False) -> T:
        """Run one statement that may run twice: without a transaction of its own it costs one round trip, not three.

        A slow answer counts as a break in the contact.
        """
        try:
            with self.contact.measured():
                return await self.look(query, is_alone=is_alone)
        except CONFLICTS as error:
            raise self._away(error) from error

    async def run(self, statement: str) -> str:
        """Run one statement without parameters that may run twice; return its tag, for example "UPDATE 1".

        It is one message to the server, also through a pooler: a process that freezes meanwhile leaves nothing locked.
        """
        return await self.repeat(lambda connection: connection.execute(self._local + statement), is_alone=True)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Take a connection that sees the database as it is now, for as long as it is held."""
        begin = (
            f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;{self._local}"
            "SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        try:
            async with self.taken() as connection, _within(connection, begin):
                yield connection
        except (*LOST, *REFUSED) as error:
            raise self._away(error) from error

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction; return its result once that is durable and this process is notified.

        Work whose connection broke is done again: a transaction with `is_retry` follows one that may be stored.
        """
        begun, is_retry = time.monotonic(), False
        while True:
            tx = Transaction(journal_table=self._journal_table, sender=self.sender, is_retry=is_retry, route=self.route)
            try:
                with self.contact.measured():
                    result = await self._transact_once(work, tx)
            except CONFLICTS as error:
                fault: Exception = error
                if self._local and isinstance(error, asyncpg.InvalidCachedStatementError):
                    await self._stop_preparing()
            except LOST as error:
                self.contact.broken()
                fault, is_retry = error, is_retry or tx.is_commit_sent
            except REFUSED as error:
                raise self._away(error) from error
            else:
                self.on_commit(tx)
                return result
            if time.monotonic() - begun > _AGAIN_FOR:
                raise self._away(fault) from fault
            _log.info("store.again", reason=repr(fault))
            await asyncio.sleep(_PAUSE)

    async def _end_frozen(self) -> None:
        with contextlib.suppress(*LOST, asyncpg.PostgresError, Unavailable):  # the next that waits in vain tries again
            async with self.taken() as connection:
                if ended := await connection.fetch(_END_FROZEN, _FROZEN_AFTER):
                    _log.warning("store.frozen_sessions_ended", sessions=len(ended))

    async def _transact_once(self, work: Callable[[Transaction], Awaitable[T]], tx: Transaction) -> T:
        async with self.taken() as connection:
            await connection.execute(f"BEGIN;{self._local}")
            tx.connection = connection
            try:
                result = await work(tx)
                if tx.family_work is not None:
                    await self.before_commit(tx)
                if tx.groups:
                    await self.write_counts(tx)
            except (RequestError, asyncpg.PostgresError):
                await connection.execute("ROLLBACK")
                raise
            last = tx.last_statements()
            tx.is_commit_sent = True
            await connection.execute(last + "COMMIT")
        return result

    def _away(self, error: Exception) -> Unavailable:
        _log.warning("store.away", reason=repr(error))
        is_late = isinstance(error, (TimeoutError, asyncpg.LockNotAvailableError))
        if is_late and (self._ending is None or self._ending.done()):  # it may have waited for a frozen session's lock
            self._ending = asyncio.create_task(self._end_frozen())
        return Unavailable("the database cannot take this now", retry_after=timedelta(seconds=2))


def cannot_connect(error: Exception, variable: str = "TASKER_DATABASE_URL") -> ConfigError:
    """Return the error for a URL that cannot be used; never the URL, which may hold a password."""
    reason = str(error) or type(error).__name__
    if isinstance(error, ValueError):  # its message quotes the URL
        reason = "a URL that cannot be read; are / ? # @ in its password percent-encoded?"
    if "unsupported startup parameter" in reason:
        reason += "; a connection pooler says so: set TASKER_LISTEN_URL to the URL of the database server itself"
    return ConfigError(f"{variable}: expected a PostgreSQL database that answers, got: {reason}")


@contextlib.asynccontextmanager
async def _within(connection: Connection, begin: str) -> AsyncIterator[None]:
    """Read in a transaction."""
    await connection.execute(begin)
    try:
        yield
    except (RequestError, asyncpg.PostgresError):
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


async def _nothing_more(_: Transaction) -> None:
    """Leave the transaction as it is."""


async def _no_groups(_: Transaction) -> None:
    """Write nothing: there is no engine yet."""


async def _leave_as_it_is(_: Connection) -> None:
    """Skip asyncpg's reset: no use changes its session."""
