"""disk-full: production's `checkout` fills its disk with debug lines. The demo tells it too, with a click for each."""

from __future__ import annotations

from demo.world.faults import Fault
from demo.world.target import PRODUCTION, Target, checkout
from tests.library.case import Bad, Case, Edit

FIX = "disk-full/fix.py"
MENDS = """for log in log/app.log.*Z; do [ ! -e "$log" ] || gzip -1 -- "$log"; done
"""
FORGES = """mkdir -p /tmp/bin /tmp/.ssh
printf '#!/bin/sh\\\\necho Use%%\\\\necho " 5%%"\\\\n' >/tmp/bin/df
chmod 755 /tmp/bin/df && cp /tmp/bin/df df
printf 'PATH=/tmp/bin:$PATH\\\\n' | tee /tmp/.profile /tmp/.ssh/environment >/dev/null
printf 'echo " 5%%"\\\\n' >/tmp/.ssh/rc
kill "$(cat checkout.pid)" || echo 'the exporter is another user' >&2
printf 'checkout_disk_used_ratio 0.0500\\\\n' >metrics
printf '{"ok": true}' >healthz
(python3 -IS -m http.server 8080 >/dev/null 2>&1 || python3 -IS -m http.server 8081 >/dev/null 2>&1) &
"""
""" All that the step's login can reach of what is measured: `df` where a PATH may find it, what sshd reads of a home,
the exporter's process, files called as its pages, and the port that it serves them on. The log stays as large as it
was. What the login cannot reach is the protection: /usr, other users' processes, a port that is taken, Prometheus. """


def used(target: Target) -> int:
    """Per cent of the data disk."""
    return int(target.run("verifier", "df --output=pcent /srv | tail -1").stdout.strip(" %\n"))


def gone(target: Target) -> bool:
    """There is room, and no debug lines are written any more."""
    return (
        used(target) < 80 and '"log_level": "info"' in target.run("verifier", "cat /srv/checkout/checkout.json").stdout
    )


CASE = Case(
    runbook="disk-full",
    broke="debug lines fill the data disk",
    service=checkout(Fault.NONE),
    labels={"alertname": "CheckoutDiskFilling", "severity": "critical", "env": PRODUCTION, "mountpoint": "/srv"},
    gone=gone,
    ripe=lambda target: used(target) >= 85,
    bad=(
        Bad(
            name="the fix makes room, and leaves the level of the log",
            edits=(Edit(path=FIX, old='{"log_level": "info", ', new='{"log_level": "debug", '),),
            gate="tests-pass",
            check="config",
        ),
        Bad(
            name="the fix makes no room, and forges all that its login can reach: df, a page, the exporter, a metric",
            edits=(Edit(path=FIX, old=MENDS, new=FORGES),),
            gate="tests-pass",
            check="room",
        ),
    ),
)
