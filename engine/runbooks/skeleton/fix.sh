#!/bin/sh
# Step `fix`: writes what will be applied into /step/out. The same diagnosis gives the same bytes.
# What earlier steps printed is in /step/claims.json, the inputs in /step/inputs.json.
set -eu
mkdir -p /step/out
cat >/step/out/fix.sh <<'FIX'
set -eu
echo 'write what changes the target; it must be safe to run twice' >&2
exit 1
FIX
