#!/bin/sh
# Redis: its benchmark with 50 clients, a script, background saving (fork and copy on write), and a restart from what was saved.
set -eu
cd "$(mktemp -d)"
start() {
  redis-server --port 6390 --ignore-warnings ARM64-COW-BUG --save '' --dir "$PWD" --daemonize yes --logfile "$PWD/log" >/dev/null
  for _ in $(seq 300); do
    [ "$(redis-cli -p 6390 ping 2>/dev/null)" != PONG ] || return 0
    sleep 0.1
  done
  cat log
  exit 1
}
start
redis-benchmark -p 6390 -q -n 5000 -t set,get,incr,lpush,lpop,sadd,hset,zadd,mset >/dev/null
redis-cli -p 6390 flushall >/dev/null
[ "$(redis-cli -p 6390 eval 'for i = 1, 20000 do redis.call("hset", "squares", i, i * i) end return redis.call("hlen", "squares")' 0)" = 20000 ]
redis-cli -p 6390 bgsave >/dev/null
for _ in $(seq 300); do
  redis-cli -p 6390 info persistence | grep -q 'rdb_bgsave_in_progress:1' || break
  sleep 0.1
done
redis-cli -p 6390 info persistence | grep -q 'rdb_last_bgsave_status:ok'
redis-cli -p 6390 shutdown nosave
start
[ "$(redis-cli -p 6390 hget squares 12345)" = 152399025 ]
redis-cli -p 6390 shutdown nosave
