#!/usr/bin/env bash
# The release check: source archives and the wheels that are made of them, each wheel installed into an environment that
# has nothing but what it asks for, and its own tests run from there, never from the source tree.
# usage: tests/dist.sh WORK-DIRECTORY [PYTHON]
set -u -o pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1
top=$PWD work=$1 python=${2:-python3}
rm -rf "${work:?}/wheels" && mkdir -p "$work/wheels" || exit 1

# The build back end once, instead of once per distribution.
"$python" -m venv --clear "$work/build" && "$work/build/bin/pip" install --quiet build 'hatchling>=1.26' || exit 1
for project in . plugins/* examples/*/; do
  [ -e "$project/pyproject.toml" ] || continue
  "$work/build/bin/python" -m build --no-isolation --outdir "$work/wheels" "$project" >"$work/build.log" 2>&1 ||
    { tail -n 25 "$work/build.log" && exit 1; }
done
ls -1 "$work/wheels"

bad=0
try() { # NAME TESTS WHEEL...
  local name=$1 tests=$2 place=$work/$1 folder
  shift 2
  "$python" -m venv --clear "$place" && "$place/bin/pip" install --quiet "$@" || return 1
  for folder in $tests; do
    [ -n "$(find "$folder" -name 'test_*.py' -print -quit)" ] || { echo "$name: no tests in $folder" && return 1; }
  done
  # Started elsewhere, and -P: neither the checkout nor the current directory is on sys.path.
  # shellcheck disable=SC2086  # several folders
  (cd "$place" && bin/python -P -m pytest -c "$top/pyproject.toml" --rootdir "$top" -o cache_dir="$place/cache" -q \
    -m "not live and not slow" $(printf "$top/%s " $tests)) || return 1
}
# The library alone is usable: no driver, and a command line that fails with what it lacks.
alone() {
  local said
  "$python" -m venv --clear "$work/alone" && "$work/alone/bin/pip" install --quiet "$core" &&
    (cd "$work/alone" && bin/python -P -c 'import hvcore; assert hvcore.catalogue() == []') &&
    { said=$("$work/alone/bin/hv" drivers 2>&1) && return 1 || grep -F 'hvcore[cli]' <<<"$said"; }
}
core=$(echo "$work"/wheels/hvcore-*.whl)
extra="${core}[cli,test]"
plugins=("$work"/wheels/hv_fake-*.whl "$work"/wheels/hv_chroot-*.whl "$work"/wheels/hv_kvm-*.whl)
alone || bad=1
try hv-fake plugins/hv-fake/tests "$extra" "${plugins[0]}" || bad=1
try hv-chroot plugins/hv-chroot/tests "$extra" "${plugins[1]}" || bad=1
try hv-kvm plugins/hv-kvm/tests "$extra" "${plugins[2]}" || bad=1
# Some tests of the core look at the hooks of kvm, so they come with everything else.
try together "tests/core" "$extra" "${plugins[@]}" || bad=1
[ "$bad" -eq 0 ] && echo "dist: every wheel by itself, and all together: ok"
exit "$bad"
