#!/usr/bin/env bash
# vacuumdb, reindexdb, clusterdb and pgbench, with pg_amcheck after them.
set -euo pipefail
vacuumdb -q -d neondb --analyze --jobs 2
reindexdb -q -d neondb --concurrently 2>/dev/null
vacuumdb -q -d neondb --full
clusterdb -q -d neondb
pgbench -q -i -s 2 neondb 2>/dev/null
pgbench -n -c 4 -j 2 -t 100 neondb >/dev/null 2>&1
psql -XAtq -d neondb -c "do \$\$ begin assert (select sum(abalance) from pgbench_accounts) =
    (select sum(delta) from pgbench_history); end \$\$"
psql -XAtq -d neondb -c "drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers"
