#!/bin/sh
# Inside new namespaces: makes a root directory of a userland and a table with one handler or none, and keeps both:
#
#   sandbox.sh PLACE ROOT PROGRAMS BINARIES EMULATOR [RULE...]
#
#   PLACE      a folder to mount on; the root directory that comes out is PLACE/root
#   ROOT       the userland, which is not written to: changes go to memory
#   PROGRAMS   a folder that appears as /conformance
#   BINARIES   a folder that appears as /binaries, for what is compiled; two sandboxes share it
#   EMULATOR   is put where BuildKit has it, if there is no RULE
#   RULE       the line that registers the emulator, and before it that of the emulator's own machine, if that is not this one
#
# It says `ready` and the number by which the machine knows it, and ends with its standard input. From the moment
# that the handler is there it starts no program, since the handler may well be for this machine's own programs.
set -eu
place=$1 root=$2 programs=$3 binaries=$4 emulator=$5
shift 5
# this is still the machine's /proc
read -r pid _ </proc/self/stat

mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root" "$place/table"
mount -t overlay -o "lowerdir=$root,upperdir=$place/upper,workdir=$place/work,userxattr" overlay "$place/root"
mount -t binfmt_misc binfmt_misc "$place/table"
cd "$place/root"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm conformance binaries
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for name in null zero full random urandom tty; do
  : >"dev/$name"
  mount --bind "/dev/$name" "dev/$name"
done
mount --bind "$programs" conformance
mount --bind "$binaries" binaries
hostname conformance

for rule; do printf '%s' "$rule" >"$place/table/register"; done
if [ $# = 0 ]; then
  : >dev/.buildkit_qemu_emulator
  mount --bind "$emulator" dev/.buildkit_qemu_emulator
fi
echo "ready $pid"
read -r _ || :
