#!/bin/sh
# Undoes apply.sh: the packages of before are back, with every byte of their database, and the service runs with them.
set -eu
undo=$(cat <<'TARGET'
set -eu
umask 002
pin=$(cat)
cd /srv/catalog
rm -rf root.new root.undone
# of an earlier upgrade nothing is undone; without a root, apply.sh ended between its two moves
if [ -e root ] && [ "$(cat root/installed.sha256 2>/dev/null)" != "$pin" ]; then
  echo 'nothing to undo: the package was not installed'
  exit 0
fi
[ ! -e root ] || mv root root.undone
mv root.before root
rm -rf root.undone
touch drain
tries=0
until [ ! -e drain ] && grep -q ':1F90 00000000:0000 0A ' /proc/net/tcp; do
  tries=$((tries + 1)); [ "$tries" -lt 60 ] || { echo 'catalog did not come back' >&2; exit 1; }
  sleep 0.5
done
echo 'the packages of before are back'
TARGET
)
ssh target -- "$undo" </step/artefact/package.sha256
