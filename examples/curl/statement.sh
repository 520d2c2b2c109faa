#!/bin/sh
# What it cost: the balance, and the statement as a table for a spreadsheet.
#
#     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
#     sh statement.sh
#
# Leaves statement.csv in the current folder: one line a job, failures at 0 with their reason.
set -eu

curl --silent --show-error --fail-with-body "$OPENAI_BASE_URL/billing/balance" \
  --header "Authorization: Bearer $OPENAI_API_KEY"
echo
curl --silent --show-error --fail-with-body --output statement.csv "$OPENAI_BASE_URL/billing/statement" \
  --header "Authorization: Bearer $OPENAI_API_KEY" \
  --header "Accept: text/csv"
cat statement.csv
