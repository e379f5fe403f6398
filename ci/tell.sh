#!/bin/sh
# Runs a command, and says at the very end once more what failed in it: between a test's
# message and the end of the output stand the logs of all that it had started.
set -eu
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ "$@" 2>&1 || echo "$?" > "$log.status"; } | tee "$log"
[ -e "$log.status" ] || exit 0
status=$(cat "$log.status")
rm -f "$log.status"
echo
echo 'What failed, once more:'
grep -h -A 12 'panicked at ' "$log" | cut -c -600 || echo 'no test said why'
exit "$status"
