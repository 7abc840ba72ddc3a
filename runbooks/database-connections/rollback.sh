#!/bin/sh
# Undoes apply.sh: the role has no limit again. The sessions that were ended are not missed: whoever needs one opens it.
set -eu
limits=/step/artefact/limits.json
words=$(jq -er '
  if (.role | type == "string" and test("\\Abilling_[a-z]{1,40}\\z")) and (.timeout_s | type == "number")
  then "\(.role) \(.timeout_s | floor)s" else error("not one role of billing with its limit") end' "$limits")
# shellcheck disable=SC2086 - two words
set -- $words
ssh target -- sh -s -- "$1" "$2" <<'TARGET'
set -eu
role=$1 timeout=$2
sql() { psql -XAtq -v ON_ERROR_STOP=1 -v role="$role" -h /var/lib/cluster/run billing; }
own=$(sql <<'SQL'
SELECT array_to_string(rolconfig, ' ') FROM pg_roles WHERE rolname = :'role'
SQL
)
[ "$own" = "idle_in_transaction_session_timeout=$timeout" ] || { echo 'nothing to undo: the limit is not ours'; exit 0; }
sql <<'SQL'
ALTER ROLE :"role" RESET idle_in_transaction_session_timeout;
SQL
echo 'the limit is taken back'
TARGET
