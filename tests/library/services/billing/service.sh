#!/bin/sh
# Runs `billing`, and its database beside it. SCRAM comes from /run/world/settings.
set -eu
. /run/world/settings
bin=$(echo /usr/lib/postgresql/*/bin)
if ! "$bin/pg_ctl" -D /var/lib/cluster/data status >/dev/null; then
  umask 077
  "$bin/pg_ctl" -D /var/lib/cluster/data -o '-c config_file=/run/world/postgresql.conf' -w start
  [ -e /var/lib/cluster/made ] ||
    "$bin/psql" -Xq -v ON_ERROR_STOP=1 -v scram="$SCRAM" -h /var/lib/cluster/run -U postgres -f /run/world/accounts.sql
  : >/var/lib/cluster/made
fi
exec /usr/bin/python3 -I /run/world/billing.py
