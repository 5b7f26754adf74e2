#!/bin/sh
# OpenSSL: keys, signatures, ciphers and digests against known answers, and a TLS connection with itself.
set -eu
cd "$(mktemp -d)"
is() { [ "$1" = "$2" ] || { echo "$1, not $2"; exit 1; }; }
digest() { printf abc | openssl dgst "-$1" -r | cut -d ' ' -f 1; }
# FIPS 180-2, appendix B; FIPS 202's examples; RFC 7693, appendix A
is "$(digest sha1)" a9993e364706816aba3e25717850c26c9cd0d89d
is "$(digest sha256)" ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
is "$(digest sha3-256)" 3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532
is "$(digest blake2b512 | cut -c 1-32)" ba80a53f981c4d0d6a2797b69f12f6e9
# FIPS 197, appendix C.1
printf '\000\021\042\063\104\125\146\167\210\231\252\273\314\335\356\377' |
  openssl enc -aes-128-ecb -nopad -K 000102030405060708090a0b0c0d0e0f >cipher
is "$(od -An -tx1 cipher | tr -d ' \n')" 69c4e0d86a7b0430d8cdb78070b4c55a
head -c 3000000 /dev/urandom >plain
for cipher in aes-256-cbc aes-256-ctr chacha20 camellia-256-cbc; do
  openssl enc "-$cipher" -pbkdf2 -pass pass:soak -in plain -out cipher
  openssl enc -d "-$cipher" -pbkdf2 -pass pass:soak -in cipher | cmp - plain
done
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem 2>/dev/null
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem
openssl genpkey -algorithm ED25519 -out ed.pem
for key in rsa ec; do
  openssl pkey -in $key.pem -pubout -out public.pem
  openssl dgst -sha256 -sign $key.pem -out signature plain
  openssl dgst -sha256 -verify public.pem -signature signature plain >/dev/null
done
openssl req -x509 -key ec.pem -subj /CN=localhost -days 1 -out certificate.pem
echo 'said over TLS' >answer
openssl s_server -quiet -accept 4433 -key ec.pem -cert certificate.pem -tls1_3 -WWW >/dev/null 2>&1 &
server=$!
for _ in $(seq 100); do
  openssl s_client -connect localhost:4433 -CAfile certificate.pem -verify_return_error -quiet \
    >got 2>/dev/null <<END && break
GET /answer HTTP/1.0

END
  sleep 0.2
done
kill $server
grep -q 'said over TLS' got
