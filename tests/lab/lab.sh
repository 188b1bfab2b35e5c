#!/usr/bin/env bash
# lab.sh - throw-away Kubernetes-like nodes on one Linux machine. README.md beside this file says more.
#
#   lab.sh up N                      start N nodes: a real sshd and a real containerd on each
#   lab.sh down                      end everything and remove every trace
#   lab.sh status                    what runs
#   lab.sh exec I CMD...             run CMD inside node I (not over SSH)
#   lab.sh stop I | start I          switch node I off, and on again with its disk as it was
#   lab.sh add-latency MS MBIT [I]   shape every node (or node I): MS one way, MBIT/s each way; 0 0 = off
#   lab.sh registry up|down          on 127.0.0.1: plain, basic auth (lab/lab-secret), TLS (own CA)
#
# Environment (README.md has the table): OMK_LAB_DIR OMK_LAB_TAG OMK_LAB_BRIDGE OMK_LAB_NET OMK_LAB_CTD OMK_LAB_DISK
# OMK_LAB_DISCARD OMK_LAB_MAXSTARTUPS OMK_LAB_MAXSESSIONS OMK_LAB_PORT_PLAIN OMK_LAB_PORT_AUTH OMK_LAB_PORT_TLS
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

LAB=${OMK_LAB_DIR:-${TMPDIR:-/tmp}/omk-lab}   # everything the lab writes is in here
TAG=${OMK_LAB_TAG:-omk}                       # prefix of links and cgroups; two labs need two
BRIDGE=${OMK_LAB_BRIDGE:-omkbr0}
NET=${OMK_LAB_NET:-10.77.0}                   # three octets; node I is NET.(10+I)
SUDO_PASSWORD=lab-sudo-pw                     # what the user omkpw types
USERS=(root omk omkpw nosudo)
HERE=$(dirname "$(readlink -f "$0")")

die() { echo "lab.sh: $*" >&2; exit 1; }
address() { echo "$NET.$((10 + $1))"; }
dir_of() { echo "$LAB/node$1"; }

# --- processes -----------------------------------------------------------------------------------------------

# The process in pid file $1 runs, and is still the one that this lab started: its command line names the lab.
alive() {
  local pid
  [ -s "$1" ] && pid=$(<"$1") && tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$LAB/"
}

# end FILE SIGNAL: ends that process and waits until it is gone.
end() {
  local pid
  if alive "$1"; then
    pid=$(<"$1")
    kill "-$2" "$pid" 2>/dev/null || true
    for _ in $(seq 100); do alive "$1" || break; sleep 0.05; done
    ! alive "$1" || kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$1"
}

# until_true SECONDS CMD...: asks every 50 ms.
until_true() {
  local end=$((SECONDS + $1)); shift
  while ! "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

# --- one node ------------------------------------------------------------------------------------------------

node_ids() {
  local d
  for d in "$LAB"/node[0-9]*; do [ ! -d "$d" ] || echo "${d##*/node}"; done | sort -n
}

# Every namespace of the node; `root` and the working directory follow the mount namespace.
in_node() {
  local file; file=$(dir_of "$1")/pid; shift
  alive "$file" || die "that node is not up"
  nsenter -t "$(<"$file")" -m -u -i -n -p -C -- "$@"
}
in_net() { nsenter -t "$(<"$(dir_of "$1")/pid")" -n -- "${@:2}"; }

# What the node reads at start. disk/ outlives a stop, etc/ is laid over the machine's own /etc.
node_files() {
  local i=$1 dir etc user hash uid=7001
  dir=$(dir_of "$i") etc=$dir/etc
  mkdir -p "$dir"/disk/{containerd,omk,root,tmp,home} "$etc"/{ssh,containerd}
  chmod 1777 "$dir/disk/tmp"

  cp /etc/passwd /etc/shadow /etc/group "$etc/"
  sed -i 's/^root:[^:]*:/root:*:/' "$etc/shadow"
  for user in "${USERS[@]:1}"; do
    echo "$user:x:$uid:$uid::/home/$user:/bin/bash" >>"$etc/passwd"
    echo "$user:x:$uid:" >>"$etc/group"
    hash='*'   # cannot be typed
    [ "$user" != omkpw ] || hash=$(openssl passwd -6 "$SUDO_PASSWORD")
    echo "$user:$hash:19000:0:99999:7:::" >>"$etc/shadow"
    install -d -m 755 -o "$uid" -g "$uid" "$dir/disk/home/$user"
    uid=$((uid + 1))
  done
  chmod 600 "$etc/shadow"
  cat >"$etc/sudoers" <<'E'
Defaults env_reset,secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
root  ALL=(ALL) ALL
omk   ALL=(ALL) NOPASSWD: ALL
omkpw ALL=(ALL) ALL
E
  chmod 440 "$etc/sudoers"

  echo "node$i" >"$etc/hostname"
  printf '127.0.0.1 localhost\n%s node%d\n' "$(address "$i")" "$i" >"$etc/hosts"
  : >"$etc/resolv.conf"

  ssh-keygen -q -t ed25519 -N '' -C "node$i" -f "$etc/ssh/ssh_host_ed25519_key" </dev/null
  cp "$LAB/id_ed25519.pub" "$etc/ssh/authorized_keys"
  cat >"$etc/ssh/sshd_config" <<E
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PidFile none
MaxStartups ${OMK_LAB_MAXSTARTUPS:-10:30:100}
MaxSessions ${OMK_LAB_MAXSESSIONS:-10}
Subsystem sftp /usr/lib/openssh/sftp-server
E
  cat >"$etc/containerd/config.toml" <<E
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
  discard_unpacked_layers = $([ -n "${OMK_LAB_DISCARD:-}" ] && echo true || echo false)
E
}

# Starts pid 1 of the node (node.sh) in new namespaces and gives it a network card.
# The network namespace has no name, so it ends with pid 1, and the veth pair with it.
node_start() {
  local i=$1 dir mac; dir=$(dir_of "$i")
  ! alive "$dir/pid" || { echo "node$i is up already"; return; }
  [ -d "$dir/etc" ] || node_files "$i"
  rm -f "$dir/pid"
  # an overlay cannot lie on an overlay: inside a container the store has to be in memory
  local disk=${OMK_LAB_DISK:-}
  [ "$disk" ] || [ "$(stat -f -c %T "$LAB")" != overlayfs ] || disk=4g
  setsid unshare --mount --uts --ipc --net --pid --fork --kill-child \
    bash "$HERE/node.sh" boot "$dir" "$TAG-node$i" "${OMK_LAB_CTD:-}" "$disk" </dev/null >"$dir/init.log" 2>&1 &
  until_true 10 test -s "$dir/pid" || { cat "$dir/init.log" >&2; die "node$i: no pid 1"; }
  # A node keeps its address on the link when it restarts, or its neighbours would not find it for a while.
  mac=$(printf '02:00:6f:6d:%02x:%02x' $((i / 256)) $((i % 256)))
  ip link add "${TAG}v$i" type veth peer name eth0 address "$mac" netns "$(<"$dir/pid")"
  ip link set "${TAG}v$i" master "$BRIDGE" up
  in_net "$i" sh -ec "ip link set lo up; ip addr add $(address "$i")/24 dev eth0; ip link set eth0 up"
}

node_answers() (in_node "$1" timeout 3 ctr version && in_node "$1" bash -c '</dev/tcp/127.0.0.1/22')
node_ready() {
  until_true 20 node_answers "$1" && return
  tail -n 5 "$(dir_of "$1")"/init.log "$(dir_of "$1")"/*.d.log >&2 || true
  die "node$1 did not come up"
}

# Power off: pid 1 of a pid namespace takes every process with it, the last of them the other namespaces.
node_stop() {
  local i=$1
  unshape "$i"
  end "$(dir_of "$i")/pid" KILL
  ip link del "${TAG}v$i" 2>/dev/null || true
  until_true 5 unshare --mount bash "$HERE/node.sh" remove-groups "$TAG-node$i"
}

known_node() { if ! [[ ${1:-} =~ ^[0-9]+$ && -d $(dir_of "${1:-}") ]]; then die "no node '${1:-}'"; fi; }
cmd_stop() { known_node "${1:-}"; node_stop "$1"; }
cmd_start() { known_node "${1:-}"; node_start "$1"; node_ready "$1"; }
cmd_exec() { known_node "${1:-}"; in_node "$@"; }

# --- the lab -------------------------------------------------------------------------------------------------

cmd_up() {
  local n=${1:-} i tool
  [[ $n =~ ^[0-9]+$ ]] || die "up N"
  [ "$(id -u)" = 0 ] || die "needs root"
  for tool in containerd ctr runc /usr/sbin/sshd sudo ip nsenter unshare openssl ssh-keygen; do
    command -v "$tool" >/dev/null || die "no $tool on this machine (tests/setup.sh installs it)"
  done
  mkdir -p "$LAB"
  [ -f "$LAB/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C omk-lab -f "$LAB/id_ed25519"
  # Nothing for these addresses may ever leave the machine: where the bridge does not take it, it is dropped.
  ip route replace blackhole "$NET.0/24" metric 4000
  ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
  ip addr replace "$NET.1/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  for i in $(seq "$n"); do node_start "$i"; done
  for i in $(seq "$n"); do node_ready "$i"; done
  write_client_files
  cmd_status
}

cmd_down() {
  local i
  for i in $(node_ids); do node_stop "$i"; done
  ip link del "$BRIDGE" 2>/dev/null || true
  ip route del blackhole "$NET.0/24" metric 4000 2>/dev/null || true
  registry_down
  rm -rf "$LAB"
}

cmd_status() {
  local i state kind
  for i in $(node_ids); do
    state=down
    ! alive "$(dir_of "$i")/pid" || state="up, containerd $(in_node "$i" containerd --version | awk '{print $3}')$(shape_of "$i")"
    echo "node$i $(address "$i") $state"
  done
  for kind in plain auth tls; do
    ! alive "$LAB/registry/$kind.pid" || echo "registry $kind 127.0.0.1:$(port_of $kind)"
  done
  echo "inventories $LAB/inventory-{$(IFS=,; echo "${USERS[*]}")}.yaml; ssh -F $LAB/ssh_config node1"
}

# What a client needs: an inventory a user, the host keys, and a configuration for ssh -F.
write_client_files() {
  local i user
  for user in "${USERS[@]}"; do
    {
      echo "nodes:"
      for i in $(node_ids); do
        printf '  - name: node%d\n    host: %s\n    port: 22\n    user: %s\n    identity: %s\n' \
          "$i" "$(address "$i")" "$user" "$LAB/id_ed25519"
        [ "$user" != omkpw ] || printf '    sudo_password: %s\n' "$SUDO_PASSWORD"
      done
    } >"$LAB/inventory-$user.yaml"
  done
  for i in $(node_ids); do
    echo "$(address "$i") $(cut -d' ' -f1,2 "$(dir_of "$i")/etc/ssh/ssh_host_ed25519_key.pub")"
  done >"$LAB/known_hosts"
  {
    for i in $(node_ids); do
      printf 'Host node%d\n  HostName %s\n  HostKeyAlias %s\n' "$i" "$(address "$i")" "$(address "$i")"
    done
    printf 'Host *\n  User root\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile none\n  BatchMode yes\n  StrictHostKeyChecking yes\n' \
      "$LAB/id_ed25519" "$LAB/known_hosts"
  } >"$LAB/ssh_config"
}

# --- slow links ----------------------------------------------------------------------------------------------

shape_of() {
  if alive "$(dir_of "$1")/shape.pid" || tc qdisc show dev "${TAG}v$1" | grep -q netem; then echo ", shaped"; fi
}

unshape() {
  local i=$1
  tc qdisc del dev "${TAG}v$i" root 2>/dev/null || true
  ! alive "$(dir_of "$i")/pid" || in_net "$i" tc qdisc del dev eth0 root 2>/dev/null || true
  end "$(dir_of "$i")/shape.pid" TERM
  if ip link del "${TAG}x$i" 2>/dev/null; then ip link set "${TAG}v$i" master "$BRIDGE" 2>/dev/null || true; fi
}

# The kernel's netem where there is one. Else a second veth pair between the bridge and the node's link, and shape.py
# carries the frames across the gap:   bridge = TAGxI ~ TAGyI  <shape.py>  TAGvI ~ eth0
cmd_add_latency() {
  local ms=${1:-} mbit=${2:-} i netem
  [[ $ms =~ ^[0-9]+$ && $mbit =~ ^[0-9]+$ ]] || die "add-latency MS MBIT [I]"
  [ -z "${3:-}" ] || known_node "$3"
  for i in ${3:-$(node_ids)}; do
    unshape "$i"
    if [ "$ms" = 0 ] && [ "$mbit" = 0 ]; then continue; fi
    alive "$(dir_of "$i")/pid" || die "node$i is down"
    netem=(netem delay "${ms}ms" limit 20000)
    [ "$mbit" = 0 ] || netem+=(rate "${mbit}mbit")
    if tc qdisc add dev "${TAG}v$i" root "${netem[@]}" 2>/dev/null; then
      in_net "$i" tc qdisc add dev eth0 root "${netem[@]}"
      continue
    fi
    ip link add "${TAG}x$i" type veth peer name "${TAG}y$i"
    ip link set "${TAG}v$i" nomaster
    ip link set "${TAG}x$i" master "$BRIDGE" up
    ip link set "${TAG}y$i" up
    # the last argument marks the process as this lab's, see alive()
    setsid "$HERE/shape.py" carry "${TAG}v$i" "${TAG}y$i" "$ms" "$mbit" "$LAB/" </dev/null >"$(dir_of "$i")/shape.log" 2>&1 &
    echo $! >"$(dir_of "$i")/shape.pid"
  done
}

# --- registries ----------------------------------------------------------------------------------------------

port_of() {
  case $1 in
    plain) echo "${OMK_LAB_PORT_PLAIN:-5000}" ;;
    auth) echo "${OMK_LAB_PORT_AUTH:-5001}" ;;
    tls) echo "${OMK_LAB_PORT_TLS:-5002}" ;;
  esac
}

# A CA and a certificate signed by it: strict clients do not take a CA's certificate as a server's.
registry_certificates() {
  local dir=$1
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=omk lab CA" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -keyout "$dir/ca.key" -out "$dir/ca.crt"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
    -keyout "$dir/tls.key" -out "$dir/tls.csr"
  openssl x509 -req -in "$dir/tls.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 30 -out "$dir/tls.crt" \
    -extfile <(echo subjectAltName=DNS:localhost,IP:127.0.0.1; echo extendedKeyUsage=serverAuth; echo basicConstraints=CA:FALSE)
}

# Three doors to one store: what is pushed to one is there in the others.
registry_up() {
  local dir=$LAB/registry kind
  command -v docker-registry >/dev/null || die "no docker-registry on this machine (tests/setup.sh installs it)"
  mkdir -p "$dir/data"
  [ -f "$dir/htpasswd" ] || htpasswd -Bbn -C 4 lab lab-secret >"$dir/htpasswd"
  [ -f "$dir/tls.crt" ] || registry_certificates "$dir" 2>"$dir/openssl.log" || die "certificates: $(<"$dir/openssl.log")"
  for kind in plain auth tls; do
    ! alive "$dir/$kind.pid" || continue
    ! listens "$(port_of $kind)" || die "port $(port_of $kind) is taken"
    {
      echo "version: 0.1"
      echo "log: {level: warn, accesslog: {disabled: true}}"
      echo "storage: {filesystem: {rootdirectory: $dir/data}, delete: {enabled: true}}"
      echo "http:"
      echo "  addr: 127.0.0.1:$(port_of $kind)"
      [ $kind != tls ] || echo "  tls: {certificate: $dir/tls.crt, key: $dir/tls.key}"
      [ $kind != auth ] || echo "auth: {htpasswd: {realm: lab, path: $dir/htpasswd}}"
    } >"$dir/$kind.yml"
    OTEL_TRACES_EXPORTER=none setsid docker-registry serve "$dir/$kind.yml" </dev/null >"$dir/$kind.log" 2>&1 &
    echo $! >"$dir/$kind.pid"
  done
  for kind in plain auth tls; do
    until_true 10 listens "$(port_of $kind)" || die "registry $kind did not start: $(tail -n 2 "$dir/$kind.log")"
    alive "$dir/$kind.pid" || die "registry $kind ended: $(tail -n 2 "$dir/$kind.log")"
  done
  echo "plain 127.0.0.1:$(port_of plain)"
  echo "auth 127.0.0.1:$(port_of auth) lab lab-secret"
  echo "tls 127.0.0.1:$(port_of tls) $dir/ca.crt"
}
listens() { bash -c "</dev/tcp/127.0.0.1/$1" 2>/dev/null; }

registry_down() {
  local kind
  for kind in plain auth tls; do end "$LAB/registry/$kind.pid" TERM; done
  rm -rf "$LAB/registry"
}

cmd_registry() {
  case ${1:-} in
    up) registry_up ;;
    down) registry_down ;;
    *) die "registry up|down" ;;
  esac
}

case ${1:-} in
  up | down | status | exec | stop | start | add-latency | registry) "cmd_${1//-/_}" "${@:2}" ;;
  *) sed -n '2,13{s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
