#!/usr/bin/python3
"""Python: dictionaries, digests, big integers, floats, subprocesses, threads, signals, generators, files."""
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

table = {f"key {i * 7919 % 10007}": i for i in range(20000)}
print(len(table), sum(v for k, v in table.items() if k.endswith("7")))
for name in ("md5", "sha1", "sha256", "sha3_512", "blake2b"):
    print(name, hashlib.new(name, b"conformance" * 1000).hexdigest())
print(zlib.crc32(b"x" * 100000), zlib.adler32(b"y" * 1000), len(zlib.compress(bytes(range(256)) * 400)))
print(3 ** 2000 % 10 ** 40, pow(12345, 67890, 10 ** 30 + 57), (1 << 200) // 12345678901234567)
print(sum(1 / k ** 2 for k in range(1, 5000)), repr(0.1 + 0.2), float.hex(2 ** 0.5), 1e308 * 10, -7 // 2, round(2.5))
print(struct.pack(">hIqd", -2, 3, -4, 1.5).hex(), struct.unpack("<f", b"\x01\x00\x00\x00"))
print(re.findall(r"(\w+)@(\w+)\.org", "a@b.org, cc@dd.org; e@f.com"), re.sub(r"(?<=a)b+", lambda m: str(len(m[0])), "abbb ab b"))
print(sorted(["ä", "b", "A", "a"]), "straße".upper(), "%08.3f|%-6s|%+d" % (3.14159, "ab", 5), f"{12345678:,}")
print(sys.byteorder, sys.maxsize, sys.float_info.dig)


def primes(limit):
    seen = bytearray(limit)
    for n in range(2, limit):
        if not seen[n]:
            yield n
            seen[n * n :: n] = b"\1" * len(range(n * n, limit, n))


print(sum(primes(20000)))

total = 0
lock = threading.Lock()
ready = threading.Event()


def work(n):
    global total
    ready.wait()
    for i in range(300):
        with lock:
            total += n


threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
ready.set()
for thread in threads:
    thread.join()
print("threads", total)

done = subprocess.run(["sh", "-c", "cat; echo error >&2; exit 7"], input=b"standard input\n", capture_output=True)
print(done.returncode, done.stdout, done.stderr)
print(subprocess.run(["sh", "-c", "kill -TERM $$"]).returncode)
try:
    subprocess.run(["/nonexistent"])
except OSError as error:
    print(type(error).__name__, error)
try:
    subprocess.run(["sleep", "5"], timeout=0.1)
except subprocess.TimeoutExpired:
    print("timed out")
children = [subprocess.Popen([sys.executable, "-S", "-c", f"print({i} ** 20)"], stdout=subprocess.PIPE) for i in range(4)]
print([child.communicate()[0] for child in children])

caught = []
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
signal.setitimer(signal.ITIMER_REAL, 0.05)
signal.signal(signal.SIGALRM, lambda number, frame: caught.append(number))
time.sleep(0.3)
print("caught", [signal.Signals(number).name for number in caught])

one, other = socket.socketpair()
if os.fork() == 0:
    one.send(b"from the child")
    os._exit(6)
print(other.recv(100), os.waitstatus_to_exitcode(os.wait()[1]))

path = f"/tmp/python-{os.getpid()}"
with open(path, "w+b") as file:
    file.write(os.urandom(100000))
    file.seek(50000)
    middle = file.read(10)
    file.seek(50000)
    print(file.read(10) == middle, os.stat(path).st_size, oct(os.stat(path).st_mode))
os.remove(path)
print(os.uname().machine, os.path.realpath("/proc/self/exe"), os.readlink("/proc/self/cwd"), sys.argv)


def deep(n):
    return 0 if n == 0 else 1 + deep(n - 1)


print(deep(900))
try:
    deep(10 ** 6)
except RecursionError as error:
    print(error)
sys.exit(0)
