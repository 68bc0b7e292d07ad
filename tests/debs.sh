#!/bin/sh
# Proves the Debian packages in a minimal root, without Python, QEMU or a package index for Python: installation, a fake
# and a kvm guest, a driver of another author, removal. Everything that it says is an assertion. From the outside:
#   ./dev deb && ./dev fresh bookworm --dist tests/debs.sh
set -eu
run() { echo "+ $*" && "$@"; }
fails() { echo "+ $* (has to fail)" && ! "$@"; }
traces() { # every file with our name: before and after have to be the same
  find / -xdev \( -path /proc -o -path /sys -o -path /root/hvcore -o -path /var/lib/apt -o -path /var/cache/apt \
    -o -path /var/log \) -prune -o \( -name '*hvcore*' -o -name 'hv[._-]*' -o -name hv \) -print | sort
}
export DEBIAN_FRONTEND=noninteractive PIP_NO_INDEX=1
before=$(traces)

run apt-get update -qq
run apt-get install -y -qq --no-install-recommends ./dist/*.deb
run test "$(command -v hv)" = /usr/bin/hv
run hv --version | grep -x 'hv 0.1.0'
run hv drivers --load
hv drivers --load --json | grep -c '"verdict": "ok"' | grep -x 3
run test -e /usr/lib/systemd/system/hvcore.service -a -e /etc/systemd/system/multi-user.target.wants/hvcore-autostart.service
run test -e /usr/share/man/man1/hv.1.gz -a -e /usr/share/zsh/vendor-completions/_hv
# shellcheck disable=SC2016  # bash expands them
run bash -c '. /usr/share/bash-completion/completions/hv && complete -p hv && COMP_WORDS="hv sta" COMP_CWORD=1 _HV_COMPLETE=bash_complete hv | grep -x plain,start'
run dpkg -V hvcore hv-kvm hv-chroot hv-fake
find /usr/lib/hvcore -name '*.pyc' -path '*hv_kvm*' | grep -q . && echo "modules are compiled"
run setpriv --reuid 1000 --regid 1000 --clear-groups env XDG_RUNTIME_DIR=/tmp hv list

folder=$(mktemp -d) && cd "$folder"
printf 'name = "one"\ndriver = "fake"\n' >one.toml
printf 'name = "web1"\ndriver = "kvm"\nmemory_mib = 64\n[[disks]]\npath = "%s/web1.img"\n[params]\nkvm_flag = "disabled"\n' \
  "$folder" >web1.toml
run /usr/lib/hvcore/bin/python3 -m hv_kvm.qemu.boot_sector web1.img "hello from web1"
run hv start one.toml
run hv verify web1.toml
run hv start web1.toml
run hv list
fails apt-get remove -y -qq hv-kvm
fails apt-get remove -y -qq hvcore
run hv --version
run hv stop web1
run hv stop one
run hv doctor || true

# A driver of another author, without its package and without pip.
wheel=$(find /root/hvcore/dist/others -name 'hv_process-*.whl')
run mkdir -p /usr/local/lib/hvcore/drivers
run /usr/lib/hvcore/bin/python3 -m zipfile -e "$wheel" /usr/local/lib/hvcore/drivers
run hv drivers --load
hv drivers --load --json | grep -c '"verdict": "ok"' | grep -x 3 # fake, kvm and process; chroot is gone, since nothing of it ran
run rm -r /usr/local/lib/hvcore

cd / && rm -r "$folder"
run apt-get purge -y -qq hvcore hv-kvm hv-chroot hv-fake
after=$(traces)
printf '%s\n' "$before" >/tmp/before
printf '%s\n' "$after" | run diff /tmp/before -
echo "the packages install, run guests, and leave nothing"
