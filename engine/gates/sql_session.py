"""One query to one Postgres, in a process that does nothing else: a question on stdin, rows on stdout, both JSON.

Started by `engine.gates.sql`. One statement, in a transaction that is READ ONLY and rolled back; by the extended
protocol, which takes no second statement. The rows come as JSON that the server cuts, so that none is too large.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import psycopg

MEMORY = 1 << 30
SEARCHED = 'SET LOCAL search_path = pg_catalog, "$user", public'
""" Who may alter the verifier's role could else put a catalog of his own before the server's. SET is no name. """
NOT_THERE = frozenset({"53300", "57P01", "57P02", "57P03", "57014", "57P05", "55P03"})
""" States that say how the server is, and not that the question is wrong: full, starting, too slow. """


def _ask(question: dict[str, Any]) -> list[str]:
    timeout_ms = int(question["timeout_s"] * 1000)
    with psycopg.connect(**_way(question)) as connection:
        if connection.info.parameter_status("is_superuser") == "on":
            raise PermissionError("the verifier's role is a superuser there: give it one that may only read")
        connection.read_only = True
        with connection.transaction(force_rollback=True):
            connection.execute(SEARCHED)
            connection.execute(
                "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)",
                (str(timeout_ms),),
            )
            found = connection.execute(_wrapped(question), (question["max_row"] + 1, *question["params"]))
            rows = [row[0] for row in found.fetchmany(question["max_rows"] + 1)]
    if len(rows) > question["max_rows"]:
        raise OverflowError(f"more than {question['max_rows']} rows")
    if any(len(row) > question["max_row"] for row in rows) or sum(map(len, rows)) > question["max_answer"]:
        raise OverflowError("rows that are too large")
    return rows


def _wrapped(question: dict[str, Any]) -> str:
    """The query as a part of ours: whatever it is, a query must stand there. Its last comment ends with its line."""
    query = question["query"].strip().removesuffix(";")
    limit = int(question["max_rows"]) + 1
    return f"SELECT left(row_to_json(answer)::text, $1) FROM (\n{query}\n) AS answer LIMIT {limit}"  # noqa: S608 - reviewed, without any input


def _way(question: dict[str, Any]) -> dict[str, Any]:
    """How to connect. Only a server that proves to know the password (SCRAM) is answered: none gets to see it."""
    trusted = {"sslmode": "verify-full", "sslrootcert": question["ca"]} if question["ca"] else {"sslmode": "prefer"}
    return {
        "host": question["address"]["host"],
        "port": question["address"]["port"],
        "dbname": question["name"],
        "user": question["user"],
        "password": question["password"],
        "connect_timeout": max(2, int(question["timeout_s"])),
        "require_auth": "scram-sha-256",
        "gssencmode": "disable",
        "passfile": "/dev/null",
        "application_name": "signalbox-gate",
        "cursor_factory": psycopg.RawCursor,
        **trusted,
    }


def main() -> None:
    """Answer the question that stands on stdin."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    question = json.load(sys.stdin)
    try:
        answer: dict[str, Any] = {"how": "rows", "what": _ask(question)}
    except psycopg.Error as error:
        lost = isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate in NOT_THERE)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        answer = {"how": "no answer" if lost or error.sqlstate in NOT_THERE else "wrong", "what": first}
    except (OverflowError, PermissionError, MemoryError) as error:
        answer = {"how": "wrong", "what": str(error) or "the answer is too large"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
