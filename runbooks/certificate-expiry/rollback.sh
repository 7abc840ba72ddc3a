#!/bin/sh
# Undoes apply.sh: the certificates of before are back, and in force.
set -eu
undo=$(cat <<'TARGET'
set -eu
umask 002
cd /srv/shop/tls
rm -f chain.pem.new
if ! cmp -s - chain.pem || [ ! -e chain.pem.before ]; then
  echo 'nothing to undo: the certificates were not put in place'
  exit 0
fi
mv chain.pem.before chain.pem
touch reload
tries=0
until [ ! -e reload ]; do
  tries=$((tries + 1)); [ "$tries" -lt 60 ] || { echo 'shop did not reload' >&2; exit 1; }
  sleep 0.5
done
echo 'the certificates of before are back'
TARGET
)
ssh target -- "$undo" </step/artefact/chain.pem
