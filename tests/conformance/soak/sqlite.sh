#!/bin/sh
# SQLite: 100,000 rows, an index, a transaction that is taken back, two writers at once, and its check of itself.
set -eu
cd "$(mktemp -d)"
sqlite3 -bail soak.db "
  PRAGMA journal_mode = WAL;
  CREATE TABLE numbers (id INTEGER PRIMARY KEY, square INTEGER, name TEXT);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    INSERT INTO numbers SELECT i, i * i, printf('number %d', i) FROM n;
  CREATE INDEX by_name ON numbers (name);
  BEGIN; DELETE FROM numbers WHERE id % 2; ROLLBACK;" >/dev/null
for writer in 1 2; do
  seq 200 | sed "s/.*/INSERT INTO numbers (square, name) VALUES (&, 'writer $writer');/" |
    sqlite3 -bail -cmd '.timeout 60000' soak.db &
  eval "writer$writer=$!"
done
# shellcheck disable=SC2154  # set above
wait "$writer1" && wait "$writer2"
result=$(sqlite3 -bail soak.db "
  SELECT count(*), sum(square) FROM numbers WHERE name LIKE 'number %';
  SELECT count(*) FROM numbers WHERE name LIKE 'writer %';
  SELECT round(sum(sqrt(square)), 3) FROM numbers WHERE name = 'number 777';
  PRAGMA integrity_check;")
[ "$result" = '100000|333338333350000
400
777.0
ok' ] || { echo "$result"; exit 1; }
