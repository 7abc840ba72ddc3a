#!/bin/sh
# Steps `staging` and `production`: puts the artefact's configuration in force. Runs in the step's VM.
set -eu
config=/step/artefact/orders.json
[ -s "$config" ] || { echo "the artefact has no orders.json" >&2; exit 1; }
# the new configuration goes in by standard input: nothing of it is ever read by a shell
ssh target -- "umask 002; cat >/srv/orders/orders.json.new" <"$config"
ssh target -- sh -s <<'TARGET'
set -eu
umask 002
cd /srv/orders
[ -s orders.json.new ]
cp -p orders.json orders.json.before
mv orders.json.new orders.json
touch restart
tries=0
# it answers again, whatever it says: what it says is for the gate to judge
until [ ! -e restart ] && grep -q ':1F90 00000000:0000 0A ' /proc/net/tcp; do
  tries=$((tries + 1)); [ "$tries" -lt 60 ] || { echo 'orders did not start' >&2; exit 1; }
  sleep 0.5
done
echo 'applied'
TARGET
