#!/bin/sh
# Step `diagnose`: what is wrong? Runs in the step's VM and looks at the target as `reader`.
# The last line is the claim, one JSON object: {"cause": "stuck"}, or "unknown" when nothing is certain.
set -eu
unit=$1
state=$(ssh target -- systemctl is-active "$unit" || true)
echo "$unit is $state"
# write what tells that it is stuck, then remove this line; until then nothing is known, and the gate stays shut
echo '{"cause": "unknown"}'
