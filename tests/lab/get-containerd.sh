#!/usr/bin/env bash
# get-containerd.sh SUITE DIR - unpacks the containerd of another Debian suite (trixie: 1.7, sid: 2.x) into DIR without
# installing it, and prints what to give lab.sh as OMK_LAB_CTD. Asks the mirror that this machine is set up with; apt's
# own state is left alone.
set -euo pipefail
suite=${1:?usage: get-containerd.sh SUITE DIR} out=${2:?usage: get-containerd.sh SUITE DIR}
mkdir -p "$out"
out=$(readlink -f "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Either style of source list; the first mirror named is the main archive.
mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '/^URIs:/ {print $2; exit}')
[ "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
  sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' | head -n 1)
[ "$mirror" ] || { echo "get-containerd.sh: no Debian mirror in /etc/apt" >&2; exit 1; }

mkdir -p "$work"/{lists,cache/archives/partial,parts}
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o "Dir::Etc::sourceparts=$work/parts"
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download containerd)
dpkg-deb --extract "$work"/containerd_*.deb "$out"
"$out/usr/bin/containerd" --version
echo "OMK_LAB_CTD=$out/usr"
