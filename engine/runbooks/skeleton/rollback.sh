#!/bin/sh
# Undoes apply.sh. It is rehearsed on staging in every run, and runs on production only by a person's decision.
# The arguments of its step are not its own: it has `args` of its own under `rollback`, and $SIGNALBOX_INPUT_NAME.
set -eu
ssh target -- sh -s <<'TARGET'
set -eu
echo 'write what undoes the change' >&2
exit 1
TARGET
