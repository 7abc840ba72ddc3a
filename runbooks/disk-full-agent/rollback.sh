#!/bin/sh
# Undoes apply.sh: the configuration of before is back. The old log stays compressed: nothing is lost by that.
set -eu
ssh target -- sh -s <<'TARGET'
set -eu
umask 002
cd /srv/checkout
if [ ! -e checkout.json.before ]; then
  echo 'nothing to undo: the configuration was not changed'
  exit 0
fi
mv checkout.json.before checkout.json
touch reload
tries=0
while [ -e reload ] && [ "$tries" -lt 60 ]; do sleep 0.5; tries=$((tries + 1)); done
[ ! -e reload ] || { echo 'checkout did not reload its configuration' >&2; exit 1; }
echo 'the configuration of before is back'
TARGET
