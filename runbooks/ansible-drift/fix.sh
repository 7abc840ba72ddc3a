#!/bin/sh
# Step `fix`: the artefact is the playbook's folder itself, so that who approves it sees all of it. Touches no host.
set -eu
cp -R /step/runbook/play/. /step/out/
