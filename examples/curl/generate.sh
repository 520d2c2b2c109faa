#!/bin/sh
# A picture from words, by link: the answer is small and the picture goes straight into a file.
#
#     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
#     sh generate.sh
#
# Leaves lamp.png (2048x1152) in the current folder.
set -eu

answer=$(curl --silent --show-error --fail-with-body --max-time 300 "$OPENAI_BASE_URL/images/generations" \
  --header "Authorization: Bearer $OPENAI_API_KEY" \
  --header "Content-Type: application/json" \
  --data '{
    "model": "gpt-image-2-vip",
    "prompt": "A lamp on a table",
    "size": "2048x1152",
    "response_format": "url"
  }')
echo "$answer"

# With jq at hand: link=$(echo "$answer" | jq --raw-output '.data[0].url')
link=$(echo "$answer" | sed -n 's/.*"url" *: *"\([^"]*\)".*/\1/p')
curl --silent --show-error --fail --output lamp.png "$link"
