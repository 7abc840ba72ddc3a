#!/bin/sh
# Undoes apply.sh. It is rehearsed on staging in every run, and runs on production only by a person's decision.
# It is given no arguments of the step: what it needs it says itself, `rollback: {script: rollback.sh, args: [...]}`.
set -eu
ssh target -- sh -s <<'TARGET'
set -eu
echo 'write what undoes the change' >&2
exit 1
TARGET
