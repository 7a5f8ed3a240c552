#!/usr/bin/env bash
# pg_basebackup with the log it needs; pg_verifybackup finds every file as the list of the backup says.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pg_basebackup -X stream -c fast --no-sync -D "$work/base"
pg_verifybackup "$work/base"
