#!/usr/bin/env bash
# Other QEMUs than the installed one, for the tests that ask "does it work there too?": Debian's packages of other
# suites, unpacked into .cache/qemu/VERSION/root and never installed. apt gets folders of its own, so the system's lists,
# caches and settings stay as they are; the mirror is the one that the system itself uses. Needs no root.
#
# usage: tests/qemus.sh [SUITE...]     default: bullseye (5.2), trixie (10.0), forky (11); what is there already stays
# A suite that cannot be had is named with its reason, and the others go on; fails only when there is none at all.
set -u -o pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1
top=$PWD/.cache/qemu
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages=(qemu-system-x86 patchelf)
extra=(qemu-system-modules-spice qemu-block-extra) # where the suite has them: part of the main package in older ones

# The address of the Debian archive among the system's own sources; of its lists where those are, else of its settings.
mirror() {
  # shellcheck disable=SC2016 # apt fills these in
  local format='$(LABEL)|$(ORIGIN)|$(COMPONENT)|$(SIGNED_BY)|$(REPO_URI)'
  apt-get indextargets --format "$format" 'Created-By: Packages' 2>/dev/null | awk -F '|' '
    $1 == "Debian" && $2 == "Debian" && $3 == "main" { print $5; found = 1; exit }
    $1 == "" && $3 == "main" && $5 ~ /\/debian\/?$/ && !fallback { fallback = $5 }
    END { if (!found && fallback) print fallback }'
}

# apt's own folders below $1, for suite $2 of mirror $3. The empty status file says that nothing is installed, so the C
# library comes along. Only settings that say how to fetch are taken over: others run programs after each update.
apt_folders() {
  local apt=$1 file
  rm -rf "$apt" && mkdir -p "$apt"/{lists/partial,archives/partial,conf.d} && : >"$apt/status" || return 1
  echo "deb [signed-by=$keyring] $3 $2 main" >"$apt/sources.list"
  for file in /etc/apt/apt.conf.d/* /etc/apt/apt.conf; do
    if grep -qs '^Acquire::' "$file" && ! grep -qE 'Invoke|Post-|Pre-' "$file"; then cp "$file" "$apt/conf.d/"; fi
  done
  cat >"$apt/apt.conf" <<END
Dir::State::status "$apt/status"; Dir::State::lists "$apt/lists"; Dir::Cache "$apt"; Dir::Cache::archives "$apt/archives";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::parts "$apt/conf.d";
Dir::Etc::main "/dev/null"; Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
APT::Install-Recommends "false"; APT::Architecture "amd64"; APT::Architectures { "amd64"; };
APT::Sandbox::User "$(id -un)"; Acquire::Retries "3"; Acquire::Languages "none"; Debug::NoLocking "true";
END
}

# Every package into one tree that is merged as a system's is, so that all of it lies below root/usr.
unpack() { # APT ROOT
  local deb name link
  mkdir -p "$2"/usr/{bin,sbin,lib,lib64} || return 1
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$2/$name" || return 1; done
  for deb in "$1"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$2" \
      --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./dev' || return 1
  done
  find "$2" -type l -lname '/*' | while read -r link; do ln -sfnr "$2$(readlink "$link")" "$link" || return 1; done
}

# The binary is made to use the libraries that it came with, and a script in its place tells it where its firmware and
# modules are: Debian's newer ones do not look beside themselves. RPATH, not RUNPATH: it holds for the libraries of
# libraries too. The second script makes QEMU die of any deprecated command or option that it can tell (from 6.0).
bind() { # ROOT, where it will be
  local loader=usr/lib64/ld-linux-x86-64.so.2 binary=usr/bin/qemu-system-x86_64 compat='' libraries name
  libraries=$(find "$1/usr/lib/x86_64-linux-gnu" -maxdepth 2 -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :)
  mv "$1/$binary" "$1/$binary.bin" && "$1/$loader" --library-path "$libraries" "$1/usr/bin/patchelf" \
    --set-interpreter "$2/$loader" --force-rpath --set-rpath "${libraries//"$1"/"$2"}" "$1/$binary.bin" || return 1
  for name in "$binary" "$binary-strict"; do
    cat >"$1/$name" <<END && chmod 755 "$1/$name" || return 1
#!/bin/sh
QEMU_MODULE_DIR='$2/usr/lib/x86_64-linux-gnu/qemu' exec '$2/$binary.bin' -L '$2/usr/share/qemu' \\
  -L '$2/usr/share/seabios' -L '$2/usr/lib/ipxe/qemu'$compat "\$@"
END
    compat=' -compat deprecated-input=crash,deprecated-output=hide'
  done
}

runs() { # ROOT: its version, as 10.0; fails when it does not run
  local said
  said=$("$1/usr/bin/qemu-system-x86_64" --version 2>/dev/null) || return 1
  [[ $said =~ version\ ([0-9]+\.[0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}

fetch() { # SUITE: into .cache/qemu/VERSION/root, with a link SUITE to it
  local suite=$1 new=$top/new-$1 site version name wanted=()
  [ -e "$keyring" ] || { echo "no $keyring: install debian-archive-keyring" && return 1; }
  site=$(mirror)
  [ -n "$site" ] || { echo "no Debian mirror among this system's apt sources" && return 1; }
  rm -rf "$new" && mkdir -p "$new/root" && apt_folders "$new/apt" "$suite" "$site" || return 1
  export APT_CONFIG=$new/apt/apt.conf
  apt-get update || return 1
  for name in "${extra[@]}"; do
    if apt-cache show "$name" >/dev/null 2>&1; then wanted+=("$name"); fi
  done
  apt-get install -y --download-only "${packages[@]}" "${wanted[@]}" || return 1
  unpack "$new/apt" "$new/root" || return 1
  version=$(dpkg-deb -f "$new"/apt/archives/qemu-system-x86_*.deb Version | sed -E 's/^[0-9]+://; s/^([0-9]+\.[0-9]+).*/\1/')
  bind "$new/root" "$top/$version/root" || return 1
  rm -rf "$new/apt" "${top:?}/$version" && mv "$new" "$top/$version" && ln -sfn "$version" "$top/$suite" || return 1
  runs "$top/$version/root"
}

[ $# -gt 0 ] || set -- bullseye trixie forky
mkdir -p "$top" || exit 1
exec 9>"$top/lock"
flock 9
had=0
for suite in "$@"; do
  began=$SECONDS
  if version=$(runs "$top/$suite/root"); then
    echo "$suite: QEMU $version is there"
  elif ! command -v apt-get >/dev/null || [ "$(uname -m)" != x86_64 ]; then
    echo "$suite: skipped: needs apt-get, and an x86-64 to run it on" && continue
  elif fetch "$suite" >"$top/$suite.log" 2>&1; then
    echo "$suite: QEMU $(tail -n 1 "$top/$suite.log") fetched in $((SECONDS - began)) s, $(du -sm "$top/$suite/root" | cut -f 1) MB"
  else
    echo "$suite: skipped: $(grep -E '^E: |^no |: ' "$top/$suite.log" | grep -vE '^(Get|Hit|Ign):' | tail -n 1); all of it: $top/$suite.log" && rm -rf "$top/new-$suite" && continue
  fi
  had=$((had + 1))
done
[ "$had" -gt 0 ]
