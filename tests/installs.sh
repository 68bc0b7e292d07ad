#!/bin/sh
# Proves docs/how-to/install.md in a minimal root: the blocks about a virtual environment and about pipx, as they are on
# the page. Everything that it says is an assertion. From the outside:
#   ./dev wheels && ./dev fresh bookworm --dist tests/installs.sh
set -eu
run() { echo "+ $*" && "$@"; }
block() { # HEADING NUMBER: that block of code below the heading; apt asks nothing
  awk -v heading="## $1" -v number="$2" '
    $0 == heading { inside = 1; next }
    /^## / { inside = 0 }
    inside && /^```$/ { code = 0 }
    inside && code && seen == number { print }
    inside && /^```sh$/ { code = 1; seen += 1 }' docs/how-to/install.md | grep .
}
follow() { # HEADING NUMBER: do it
  block "$@" | sed "s,\./hv_acme-[^ ]*,$wheel," >/tmp/block.sh
  echo "--- $1, block $2" && cat /tmp/block.sh
  sh -eux /tmp/block.sh
}
works() { # HV PYTHON: a guest of each driver runs
  run "$1" --version | grep -x "hv $version"
  "$1" drivers --load --json | grep -c '"verdict": "ok"' | grep -x "$3"
  folder=$(mktemp -d)
  printf 'name = "web1"\ndriver = "kvm"\nmemory_mib = 64\n[[disks]]\npath = "web1.img"\n[params]\nkvm_flag = "disabled"\n' \
    >"$folder/web1.toml"
  run "$2" -m hv_kvm.qemu.boot_sector "$folder/web1.img" "hello from web1"
  run "$1" verify "$folder/web1.toml"
  run "$1" start "$folder/web1.toml"
  run "$1" stop web1
  run "$1" doctor || true
  rm -r "$folder"
}
export DEBIAN_FRONTEND=noninteractive
printf 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n' >/etc/apt/apt.conf.d/00installs
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' hvcore/_version.py)
wheel=$(find dist/others -name 'hv_process-*.whl')
run apt-get update -qq
run apt-get install -qq man-db

follow "Wheels in a virtual environment" 1
works hv /opt/hvcore/bin/python3 2
run man -w hv
follow "Wheels in a virtual environment" 2
hv drivers --load | grep hv-process
rm -r /opt/hvcore /usr/local/bin/hv /usr/local/share/man/man1/hv.1

follow "pipx" 1
works /usr/local/bin/hv /opt/pipx/venvs/hvcore/bin/python 2
run man -w hv || run man -lw /opt/pipx/venvs/hvcore/share/man/man1/hv.1
run env PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx inject hvcore "./$wheel"
hv drivers --load | grep hv-process
echo "the page about the installation is right"
