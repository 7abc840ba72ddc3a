#!/bin/sh
# Steps `staging` and `production`: restarts the service as the artefact says. Runs in the step's VM.
set -eu
restart=/step/artefact/restart.sh
[ -s "$restart" ] || { echo "the artefact has no restart.sh" >&2; exit 1; }
ssh target -- sh -s <"$restart"
echo "restarted"
