#!/usr/bin/env python3
"""Step `diagnose`: who holds the connections of `billing`? Runs in the step's VM, asks the database as `reader`.

The last line of its output is the claim: {cause, role, used, most, evidence}. `role` is who leaks, or empty; `most` is
how many the server admits. `unknown` is an answer.
"""

import json
import subprocess
import sys

FULL = 0.7
LOOK = "psql -XAt -v ON_ERROR_STOP=1 -h /var/lib/cluster/run billing"
ASK = """\
SELECT json_build_object('most', current_setting('max_connections')::int, 'limited', ARRAY(
  SELECT rolname FROM pg_roles WHERE array_to_string(rolconfig, ' ') LIKE '%idle_in_transaction_session_timeout=%'));
SELECT json_build_object(
  'role', usename, 'state', state, 'count', count(*), 'longest_s', extract(epoch FROM max(now() - state_change))::int,
  'stuck', count(*) FILTER (WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '10 s'))
FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY usename, state ORDER BY usename, state;
"""


def diagnose(text: str) -> dict[str, object]:
    """The claim, from what the database said. Raises ValueError, KeyError, TypeError when it said nonsense."""
    server, *sessions = (json.loads(line) for line in text.splitlines())
    used = sum(one["count"] for one in sessions)
    stuck = [one for one in sessions if one["stuck"]]
    cause, role = "unknown", ""
    if used >= FULL * server["most"]:
        if not stuck:
            busy = sum(one["count"] for one in sessions if one["state"] == "active")
            cause = "too_few_connections" if busy > used / 2 else "unknown"
        elif len({one["role"] for one in stuck}) == 1 and sum(one["stuck"] for one in stuck) > used / 2:
            role = str(stuck[0]["role"])
            # a limit that is there already, and does not help, is for a person
            cause = "unknown" if role in server["limited"] else "idle_in_transaction"
    return {
        "cause": cause,
        "role": role,
        "used": used,
        "most": server["most"],
        "evidence": [
            f"{one['count']} of {one['role']}: {one['state']}, for {one['longest_s']} s at most"
            for one in sessions[:20]
        ],
    }


def main() -> None:
    """Look and print."""
    looked = subprocess.run(["ssh", "target", "--", LOOK], input=ASK, capture_output=True, text=True, check=False)
    if looked.returncode != 0:
        sys.exit(f"could not ask the database: {looked.stderr.strip()}")
    print(json.dumps(diagnose(looked.stdout)))


if __name__ == "__main__":
    main()
