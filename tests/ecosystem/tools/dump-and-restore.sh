#!/usr/bin/env bash
# pg_dump as a directory by two jobs, pg_restore into another database by two jobs: both dump the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dropdb --if-exists restored && createdb restored
# What the extensions need is made by their scripts, so a superuser restores.
pg_dump -d neondb -Fd -j2 -f "$work/dump"
pg_restore -d restored -j2 --exit-on-error "$work/dump"
for database in neondb restored; do
    # Newer minors name each dump by a random key.
    pg_dump -d "$database" | grep -vE '^\\(un)?restrict ' >"$work/$database"
done
diff "$work/neondb" "$work/restored" >&2
dropdb restored
