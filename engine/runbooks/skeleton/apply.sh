#!/bin/sh
# Steps `staging` and `production`: applies the artefact to the target. Runs in the step's VM; fix.sh runs there.
set -eu
ssh target -- sh -s </step/artefact/fix.sh
