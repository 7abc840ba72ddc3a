#!/bin/sh
# Steps `staging` and `production`: carries the artefact out. Runs in the step's VM.
set -eu
limits=/step/artefact/limits.json
# each value is checked, so that the words below are plain ones
words=$(jq -er '
  def seconds: type == "number" and . == floor and 1 <= . and . <= 600;
  if keys == ["older_s", "role", "timeout_s"] and (.role | type == "string" and test("\\Abilling_[a-z]{1,40}\\z"))
    and (.timeout_s | seconds) and (.older_s | seconds) and .timeout_s <= .older_s
  then "\(.role) \(.timeout_s)s \(.older_s)" else error("not one role of billing with its limits") end' "$limits")
# shellcheck disable=SC2086 - three words
set -- $words
ssh target -- sh -s -- "$1" "$2" "$3" <<'TARGET'
set -eu
role=$1 timeout=$2 older=$3
sql() { psql -XAtq -v ON_ERROR_STOP=1 -v role="$role" -v timeout="$timeout" -v older="$older s" -h /var/lib/cluster/run billing; }
end_idle() {
  sql <<'SQL'
SELECT count(pg_terminate_backend(pid)) || ' ended' FROM pg_stat_activity
WHERE usename = :'role' AND state LIKE 'idle in transaction%'
  AND state_change < now() - :'older'::interval
SQL
}
own=$(sql <<'SQL'
SELECT coalesce(array_to_string(rolconfig, ' '), 'none') FROM pg_roles WHERE rolname = :'role' AND NOT rolsuper
SQL
)
case $own in
  none | "idle_in_transaction_session_timeout=$timeout") ;;
  *) echo "$role is no role without settings of its own: ${own:-not there}" >&2; exit 1 ;;
esac
sql <<'SQL'
ALTER ROLE :"role" SET idle_in_transaction_session_timeout = :'timeout';
SQL
end_idle
# a setting holds for the sessions that begin after it: those that began shortly before are old by now
sleep $((older + 1))
end_idle
TARGET
echo "limited"
