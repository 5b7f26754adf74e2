#!/bin/sh
# Node.js: its compilers, worker threads with shared memory, child processes, streams, WebAssembly, and the network.
set -eu
cd "$(mktemp -d)"
cat >soak.js <<'END'
const assert = require('node:assert');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { execFileSync, fork } = require('node:child_process');
const { once } = require('node:events');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const zlib = require('node:zlib');

if (!isMainThread) {
  const shared = new Int32Array(workerData);
  for (let i = 0; i < 20000; i++) Atomics.add(shared, 0, 1);
  Atomics.add(shared, 1, 1);
  Atomics.notify(shared, 1);
  return;
}
if (process.argv[2] === 'child') {
  process.on('message', (n) => process.send(n * 2));
  process.on('disconnect', () => process.exit(7));
  return;
}
(async () => {
  const memory = new SharedArrayBuffer(8);
  const workers = Array.from({ length: 4 }, () => new Worker(__filename, { workerData: memory }));
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  assert.deepStrictEqual([...new Int32Array(memory)], [80000, 4]);

  const child = fork(__filename, ['child']);
  child.send(21);
  assert.deepStrictEqual((await once(child, 'message'))[0], 42);
  child.disconnect();
  assert.deepStrictEqual(await once(child, 'exit'), [7, null]);
  assert.strictEqual(execFileSync(process.execPath, ['-p', '6 * 7']).toString(), '42\n');

  // optimized, and taken back when a type changes
  const add = (a, b) => a + b;
  let sum = 0;
  for (let i = 0; i < 3e6; i++) sum = add(sum, i % 7);
  assert.strictEqual(sum, 8999994);
  assert.strictEqual(add('a', 1), 'a1');
  assert.strictEqual([...'x'.repeat(3e4)].map((c, i) => c.charCodeAt(0) * i).reduce(add), 53998200000);

  const data = crypto.randomBytes(2e6);
  assert.ok(zlib.gunzipSync(zlib.gzipSync(data)).equals(data));
  fs.writeFileSync('data', data);
  const hash = crypto.createHash('sha256');
  for await (const chunk of fs.createReadStream('data')) hash.update(chunk);
  assert.strictEqual(hash.digest('hex'), crypto.createHash('sha256').update(data).digest('hex'));

  // (func (export "f") (param i32) (result i32) local.get 0 i32.const 2 i32.mul)
  const wasm = Buffer.from('0061736d0100000001060160017f017f030201000705010166000' + '00a09010700200041026c0b', 'hex');
  assert.strictEqual((await WebAssembly.instantiate(wasm)).instance.exports.f(21), 42);

  const server = http.createServer((request, answer) => answer.end(request.url.repeat(1000)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const at = `http://127.0.0.1:${server.address().port}/`;
  const texts = await Promise.all(Array.from({ length: 50 }, (_, n) => fetch(at + n).then((r) => r.text())));
  texts.forEach((text, n) => assert.strictEqual(text, `/${n}`.repeat(1000)));
  server.close();
  global.gc?.();
  console.log('passed');
})();
END
[ "$(node --expose-gc soak.js)" = passed ]
