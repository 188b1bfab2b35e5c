#!/usr/bin/env bash
# setup.sh - installs what the tests need, on Debian and its kin, as root. Quick when all is there.
# Not as root: says what is missing, and changes nothing. The tests that need no lab run all the same.
set -euo pipefail
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin
PACKAGES=(containerd runc openssh-server openssh-client sudo docker-registry skopeo umoci podman iproute2 apache2-utils
  zstd pigz busybox-static openssl python3 faketime)

say() { echo "setup.sh: $*" >&2; }
have() { command -v "$1" >/dev/null; }

missing=()
if have dpkg-query; then
  installed=" $(dpkg-query -W -f='${Package}/${db:Status-Status} ' "${PACKAGES[@]}" 2>/dev/null || true)"
  for package in "${PACKAGES[@]}"; do
    [[ $installed == *" $package/installed "* ]] || missing+=("$package")
  done
else
  say "not a Debian system: install these yourself: ${PACKAGES[*]}"
fi

if [ "$(id -u)" != 0 ]; then
  [ ${#missing[@]} = 0 ] || say "missing Debian packages: ${missing[*]}"
  have cargo-nextest || say "missing: cargo install --locked cargo-nextest"
  say "NOT ROOT: THE LAB TESTS ARE SKIPPED"
  exit 0
fi

if [ ${#missing[@]} != 0 ]; then
  say "installing ${missing[*]}"
  # The lab starts its own daemons: the packages' must not run beside them, nor fail where there is no init system.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq install --yes --no-install-recommends "${missing[@]}" </dev/null >&2
fi

if ! have cargo-nextest; then
  say "installing cargo-nextest: this takes minutes, once"
  cargo install --quiet --locked cargo-nextest </dev/null
fi
