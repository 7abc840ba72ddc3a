#!/bin/sh
# Runs the service of this target, here `checkout`; boot.sh runs it as the service's user, and again when it ends.
. /run/world/settings
set -- --root /srv/checkout --env "$ENV" --listen 0.0.0.0:8080 --pace "$PACE_MB"
[ "$OLD_RELEASE" = 0 ] || set -- "$@" --old-release
exec /usr/bin/python3 -IS /run/world/checkout.py "$@"
