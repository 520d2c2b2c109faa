#!/bin/sh
# A picture from words and pictures: a form; several inputs are several fields "image[]".
#
#     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
#     sh edit.sh lamp.png table.png
#
# Leaves edited.png (1024x1024) in the current folder.
set -eu
: "${1:?usage: sh edit.sh PICTURE [PICTURE ...]}"

for picture in "$@"; do
  set -- "$@" --form "image[]=@$picture"
  shift
done
answer=$(curl --silent --show-error --fail-with-body --max-time 300 "$OPENAI_BASE_URL/images/edits" \
  --header "Authorization: Bearer $OPENAI_API_KEY" \
  --form model=gpt-image-2-vip \
  --form 'prompt=Put them together in one scene at night, title "新品上市"' \
  --form size=1024x1024 \
  --form response_format=url \
  "$@")
echo "$answer"

link=$(echo "$answer" | sed -n 's/.*"url" *: *"\([^"]*\)".*/\1/p')
curl --silent --show-error --fail --output edited.png "$link"
