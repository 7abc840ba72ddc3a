#!/bin/sh
# Undoes apply.sh on staging: the configuration of before is back, and in force.
set -eu
ssh target -- sh -s <<'TARGET'
set -eu
umask 002
cd /srv/orders
rm -f orders.json.new
[ -e orders.json.before ] || { echo 'nothing to undo: the configuration was not changed'; exit 0; }
mv orders.json.before orders.json
touch restart
tries=0
until [ ! -e restart ] && grep -q ':1F90 00000000:0000 0A ' /proc/net/tcp; do
  tries=$((tries + 1)); [ "$tries" -lt 60 ] || { echo 'orders did not start' >&2; exit 1; }
  sleep 0.5
done
echo 'the configuration of before is back'
TARGET
