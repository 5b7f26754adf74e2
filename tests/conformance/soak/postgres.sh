#!/bin/sh
# PostgreSQL: a new cluster, its benchmark with eight clients, a crash, and the recovery from it.
set -eu
work=$(mktemp -d)
chown user "$work"
cat >"$work/script" <<'END'
set -eu
cd "$1"
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
export PGHOST=$1 PGDATABASE=postgres
initdb --pgdata data --no-sync --no-locale >/dev/null
start() { pg_ctl --pgdata data --log log --wait --timeout 300 --options "-k $PWD -c listen_addresses=" start >/dev/null; }
start
pgbench --initialize --scale 2 --quiet 2>/dev/null
pgbench --client 8 --jobs 2 --transactions 100 >/dev/null 2>&1
is() { [ "$1" = "$2" ] || { echo "$1, not $2"; tail log; exit 1; }; }
is "$(psql -Atc 'select count(*) from pgbench_history')" 800
is "$(psql -Atc 'select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts')" t
psql -qc 'create table words as select md5(i::text) word, i from generate_series(1, 50000) i; create index on words (word)'
is "$(psql -Atc "select i from words where word = md5('4711')")" 4711
# one process that dies takes all others with it, and the server recovers by its log
psql -qc 'select pg_sleep(1000)' 2>/dev/null &
waiting="select pid from pg_stat_activity where query like 'select pg_sleep%'"
until pid=$(psql -Atc "$waiting") && [ "$pid" ]; do sleep 0.1; done
kill -KILL "$pid"
wait
until psql -Atc 'select 1' >/dev/null 2>&1; do sleep 0.1; done
is "$(psql -Atc 'select count(*) from words')" 50000
pg_ctl --pgdata data --wait --mode fast stop >/dev/null
END
setpriv --reuid user --regid user --clear-groups env HOME="$work" sh "$work/script" "$work"
