#!/usr/bin/env bash
# The release check: four wheels, each installed into an environment that has nothing but what it asks for, and its own
# tests run from there, never from the source tree. usage: tests/dist.sh WORK-DIRECTORY [PYTHON]
set -u -o pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1
top=$PWD work=$1 python=${2:-python3}
rm -rf "${work:?}/wheels" && mkdir -p "$work/wheels" || exit 1

for project in . plugins/hv-fake plugins/hv-chroot plugins/hv-kvm; do
  "$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$project" || exit 1
done
ls -1 "$work/wheels"

bad=0
try() { # NAME TESTS WHEEL...
  local name=$1 tests=$2 place=$work/$1
  shift 2
  "$python" -m venv --clear "$place" && "$place/bin/pip" install --quiet "$@" || return 1
  [ -z "$tests" ] || [ -n "$(find "$tests" -name 'test_*.py' -print -quit)" ] || { echo "$name: no tests in $tests"; return 1; }
  # Started elsewhere, and -P: neither the checkout nor the current directory is on sys.path.
  (cd "$place" && bin/python -P -m pytest -c "$top/pyproject.toml" --rootdir "$top" -o cache_dir="$place/cache" -q \
    -m "not live and not slow" "$top/$tests") || return 1
}
core=$(echo "$work"/wheels/hvcore-*.whl)
extra="${core}[cli,test]"
try hv-fake plugins/hv-fake/tests "$extra" "$work"/wheels/hv_fake-*.whl || bad=1
try hv-chroot plugins/hv-chroot/tests "$extra" "$work"/wheels/hv_chroot-*.whl || bad=1
try hv-kvm plugins/hv-kvm/tests "$extra" "$work"/wheels/hv_kvm-*.whl || bad=1
try hvcore tests/core "$extra" "$work"/wheels/hv_fake-*.whl || bad=1
[ "$bad" -eq 0 ] && echo "dist: four wheels, each by itself: ok"
exit "$bad"
