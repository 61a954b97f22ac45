#!/bin/sh
# @name@ of an installed release: its own Node.js and code, and nothing of the caller's Node.js settings. The
# installed settings count where the caller's environment does not say otherwise.
set -eu
release=$(dirname -- "$(readlink -f -- "$0")")/..
settings=/etc/@name@/@settings@
[ -r "$settings" ] || settings=/dev/null
unset NODE_OPTIONS NODE_PATH
exec "$release/bin/node" --disable-sigusr1 --env-file="$settings" "$release/@entry@" "$@"
