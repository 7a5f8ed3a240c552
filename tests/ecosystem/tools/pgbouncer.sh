#!/usr/bin/env bash
# PgBouncer in transaction mode, in front of the endpoint with TLS and the role's own password.
set -euo pipefail
uri=$1
work=$(mktemp -d)
chmod 755 "$work"
at=${uri#postgresql://}
user=${at%%:*} rest=${at#*:}
password=${rest%%@*}
server=${rest#*@}
port=${server#*:}
port=${port%%/*}
cat >"$work/ini" <<INI
[databases]
neondb = host=127.0.0.1 port=$port dbname=neondb user=$user password=$password
[pgbouncer]
listen_addr =
unix_socket_dir = $work
listen_port = 6432
auth_type = trust
auth_file = $work/users
pool_mode = transaction
server_tls_sslmode = require
default_pool_size = 4
logfile = $work/log
INI
echo "\"$user\" \"\"" >"$work/users"
chown -R nobody "$work" 2>/dev/null || true
as=()
[ "$(id -u)" != 0 ] || as=(-u nobody)
"$PGBOUNCER" -q "${as[@]}" "$work/ini" >/dev/null 2>&1 &
bouncer=$!
trap 'kill -INT $bouncer; wait $bouncer 2>/dev/null || true; rm -rf "$work"' EXIT
through() { PGHOST=$work PGPORT=6432 PGUSER=$user psql -XAtq -d neondb -v ON_ERROR_STOP=1 "$@"; }
for _ in $(seq 100); do
    through -c "select 1" >/dev/null 2>&1 && break
    sleep 0.1
done
through -c "create table driven_by_pgbouncer(id int primary key)"
for n in 1 2 3 4 5 6 7 8; do
    through -c "begin; insert into driven_by_pgbouncer select g from generate_series($n * 100, $n * 100 + 49) g; commit" &
done
wait $(jobs -p | grep -v "^$bouncer$")
[ "$(through -c "select count(*) from driven_by_pgbouncer")" = 400 ]
through -c "drop table driven_by_pgbouncer"
