#!/usr/bin/env bash
# Proves the README's two commands on a machine that never saw the project: a minimal Debian root, a clean clone, no
# Python environment, no QEMU. As root. Everything is mounted in a mount namespace of its own, so nothing has to be
# unmounted afterwards, and nothing that runs in it (its own pid namespace) survives it.
#
# usage: ./dev fresh SUITE [--dirty] [--dist] [--root TAR] [COMMAND...]
#   SUITE      bookworm, trixie; default commands: './dev demo' './dev test'
#   --dirty    the files as they are, uncommitted ones too; else HEAD
#   --dist     dist/ too, with the packages that ./dev wheels and ./dev deb have built
#   --root     a root that mmdebstrap made before, as a tar archive
set -u -o pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1
top=$PWD
die() {
  printf 'fresh: %s\n' "$*" >&2
  exit 1
}

# The part inside the namespaces: ROOT COMMAND
if [ "${1:-}" = --inside ]; then
  root=$2
  while read -r folder; do
    mkdir -p "$root$folder" && mount --bind "$folder" "$root$folder" && mount -o remount,bind,ro "$root$folder" || exit 1
  done <"$root.folders"
  mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" || exit 1
  settings=()
  while IFS= read -r -d '' pair; do settings+=("$pair"); done <"$root.env"
  # The shell stays: as the first process it has to collect orphans, which a demo in Python would not.
  left="for p in /proc/[0-9]*; do read -r n <\$p/comm && [ \$n != sh ] && echo left behind: \$n; done 2>/dev/null"
  exec chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" \
    sh -c "cd /root/hvcore && $3; rc=\$?; $left; exit \$rc"
fi

suite=${1:-}
[ -n "$suite" ] || die "which suite? usage: ./dev fresh bookworm|trixie [--dirty] [COMMAND...]"
shift
dirty=no dist=no tar=''
while [ $# -gt 0 ]; do
  case $1 in
    --dirty) dirty=yes ;;
    --dist) dist=yes ;;
    --root) tar=${2:?which archive?} && shift ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || set -- './dev demo' './dev test'
[ "$EUID" -eq 0 ] || die "needs root for the mounts; run: sudo ./dev fresh $suite"
command -v mmdebstrap >/dev/null || { apt-get update && apt-get install -y --no-install-recommends mmdebstrap; } ||
  die "mmdebstrap is missing and could not be installed"

base=$(mktemp -d "${TMPDIR:-/tmp}/hvcore-fresh.XXXXXX") || exit 1
root=$base/root
logs=$top/.cache/fresh
mkdir -p "$logs"
trap 'rm -rf --one-file-system "$base"' EXIT
chmod 755 "$base"

began=$SECONDS
if [ -n "$tar" ]; then
  mkdir "$root" && tar -xf "$tar" -C "$root" || die "$tar: cannot be unpacked"
else
  mmdebstrap --variant=minbase --include=ca-certificates,git,python3 "$suite" "$root" >"$logs/$suite-root.log" 2>&1 ||
    die "mmdebstrap failed: $(tail -n 3 "$logs/$suite-root.log")"
fi
echo "$suite: a minimal root, $(du -sm "$root" | cut -f 1) MB, in $((SECONDS - began)) s"

# How this machine reaches its package sources goes along: resolver, certificates, the settings of apt and of pip, and
# the folders that pip's settings name. Nothing of it is in the repository.
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
for file in /etc/apt/apt.conf.d/*; do # only those that say how to fetch, none that runs a program
  if grep -q '^Acquire::' "$file" && ! grep -qE 'Invoke|Post-|Pre-' "$file"; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi
done
python3 -m pip config debug 2>/dev/null | sed -n 's/^ *\(\/.*\), exists: True$/\1/p' | while read -r file; do
  inside=$root$file
  case $file in "$HOME"/*) inside=$root/root/${file#"$HOME"/} ;; esac
  install -D -m 644 "$file" "$inside"
done
python3 -m pip config list 2>/dev/null | grep -oE "(file://)?/[^' ]+" | sed 's,^file://,,' | sort -u |
  while read -r folder; do
    [ "${folder##*/}" != simple ] || folder=${folder%/simple} # an index lies beside the files that it names
    [ ! -f "$folder" ] || install -D -m 644 "$folder" "$root$folder"
    [ ! -d "$folder" ] || echo "$folder"
  done | sort -u >"$root.folders"
env -0 | grep -zE '^(PIP_[A-Z_]+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|[a-zA-Z]+_(proxy|PROXY))=' >"$root.env"

git clone -q "$top" "$root/root/hvcore" 2>/dev/null || die "cannot clone $top"
if [ "$dirty" = yes ]; then
  git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
  done | tar --null --no-recursion -T - -c | tar -x -C "$root/root/hvcore" || die "cannot copy the files"
fi
if [ "$dist" = yes ]; then # and the wheel of a driver that stands for one of another author
  cp -R dist "$root/root/hvcore/" || die "dist: build the packages first: ./dev deb"
  .venv/bin/python -m build --wheel --no-isolation --outdir "$root/root/hvcore/dist/others" examples/hv-process \
    >"$logs/$suite-others.log" 2>&1 || die "the wheel of examples/hv-process: $(tail -n 3 "$logs/$suite-others.log")"
fi

bad=0 number=0
for command in "$@"; do
  began=$SECONDS rc=0 number=$((number + 1))
  file=$logs/$suite-$number.log
  printf '$ %s
' "$command" >"$file"
  unshare --mount --pid --fork --kill-child --propagation private "$top/tests/fresh.sh" --inside "$root" "$command" \
    >>"$file" 2>&1 </dev/null || rc=$?
  cp "$root/root/hvcore/.cache/dev.log" "${file%.log}-dev.log" 2>/dev/null || true # it goes with the root
  [ "$rc" -eq 0 ] || bad=1
  printf '%s: %s: exit %d in %d s; %s; its output: %s\n' "$suite" "$command" "$rc" $((SECONDS - began)) \
    "$(tail -n 1 "$file")" "$file"
done
exit "$bad"
