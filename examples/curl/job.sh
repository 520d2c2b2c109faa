#!/bin/sh
# An order without waiting: 202 at once, then one call that answers when the picture is there.
# No proxy has anything to cut, and the key makes the order safe to send again.
#
#     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
#     sh job.sh
#
# Leaves job.png (1820x1024) in the current folder.
set -eu

field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" | head -n 1; }
ask() { curl --silent --show-error --fail-with-body --header "Authorization: Bearer $OPENAI_API_KEY" "$@"; }

location=$(ask --dump-header - --output /dev/null "$OPENAI_BASE_URL/images/generations" \
  --header "Prefer: respond-async" \
  --header "Idempotency-Key: $(date +%s)-$$" \
  --header "Content-Type: application/json" \
  --data '{"model": "gpt-image-2-vip", "prompt": "A lamp on a table", "size": "1820x1024"}' |
  tr -d '\r' | sed -n 's/^[Ll]ocation: *//p')
echo "ordered: $location"

# Location is /v1/jobs/...; the address in the environment ends with /v1.
job="${OPENAI_BASE_URL%/v1}$location"
status=queued
while [ "$status" = queued ] || [ "$status" = in_progress ]; do
  answer=$(ask "$job?wait=30")
  status=$(echo "$answer" | field status)
  echo "$status"
done
[ "$status" = completed ] || { echo "$answer" >&2; exit 1; }
curl --silent --show-error --fail --output job.png "$(echo "$answer" | field url)"
