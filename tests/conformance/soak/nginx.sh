#!/bin/sh
# nginx: two workers, a large file by sendfile, compression, 500 requests by 20 clients at once, a reload.
set -eu
work=$(mktemp -d)
chmod 755 "$work"
cd "$work"
mkdir page logs
seq 100000 >page/numbers
head -c 20000000 /dev/urandom >page/noise
cat >conf <<END
user user; worker_processes 2; pid $work/pid; error_log $work/logs/error;
events { worker_connections 200; }
http {
  access_log off; sendfile on; gzip on; gzip_types *; gzip_min_length 1000;
  client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi;
  uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
  server { listen 127.0.0.1:8080; root $work/page; }
}
END
nginx -c "$work/conf" -e "$work/logs/error"
cat >client.py <<'END'
import concurrent.futures, gzip, hashlib, sys, urllib.request

def get(path, **headers):
    request = urllib.request.Request("http://127.0.0.1:8080/" + path, headers=headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read(), answer.headers

noise = open("page/noise", "rb").read()
assert get("noise")[0] == noise
assert get("noise", Range="bytes=1000-1999")[0] == noise[1000:2000]
numbers = open("page/numbers", "rb").read()
packed, headers = get("numbers", **{"Accept-Encoding": "gzip"})
assert headers["Content-Encoding"] == "gzip" and gzip.decompress(packed) == numbers
digest = hashlib.sha256(numbers).digest()
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    for body, _ in pool.map(get, ["numbers"] * 500):
        assert hashlib.sha256(body).digest() == digest
END
python3 client.py
kill -HUP "$(cat pid)"
sleep 2
python3 client.py
kill -QUIT "$(cat pid)"
! grep -E '\[(alert|crit|emerg)\]' logs/error
