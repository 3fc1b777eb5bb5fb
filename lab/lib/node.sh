#!/bin/bash
# node.sh STATE SECONDS: a client of Nomad's in namespaces of its own, whose processes
# end with this one. On it: the README from the second step of the installation to the
# page of the first job, and what the program says by hand; then the agents of the
# examples. SECONDS have passed before.
#
# What a reader has beside the README is made up for here: daemons that run (there is
# no systemd), Nomad, and a way to Debian's images.
set -euo pipefail
STATE=$1 SECONDS=$2
here=$(dirname "$0")
# shellcheck source=common.sh
. "$here/common.sh"
# shellcheck source=mounts.sh
. "$here/mounts.sh"
# shellcheck source=follow.sh
. "$here/follow.sh"

logs=$LAB_STATE/fresh-logs # kept until the next time

# daemon NAME CMD...: start it, as its unit would.
daemon() {
	local name=$1
	shift
	"$@" >>"$logs/$name.log" 2>&1 </dev/null &
	echo $! >"$STATE/$name.pid"
}

# end NAME: wait until it has gone; bash looks after its children meanwhile.
end() {
	kill "$(cat "$STATE/$1.pid")"
	wait_for 20 "$1" ended "$1"
}

ended() { ! kill -0 "$(cat "$STATE/$1.pid")"; }

# wait_for SECONDS NAME CMD...: until CMD succeeds, or show the log of daemon NAME.
wait_for() {
	until_true "$1" "${@:3}" && return
	show_log "$logs/$2.log"
	die "$2 is not ready in $1 s (${*:3})"
}

start_libvirt() {
	daemon virtlogd /usr/sbin/virtlogd
	daemon libvirtd /usr/sbin/libvirtd
	wait_for 20 libvirtd virsh -q version
}

# start_nomad: a server elsewhere, and this node's client, with what is in /etc/nomad.d
# before the driver comes.
start_nomad() {
	cp "$STATE/given/nomad" /usr/local/bin/
	echo 'ports { http = 4656 }' >"$STATE/ports.hcl" # 4646 is the client's
	daemon nomad-server nomad agent -config=examples/server.nomad.hcl -config="$STATE/ports.hcl" -data-dir=/opt/nomad/elsewhere
	wait_for 30 nomad-server server_ready 4656
	mkdir -p /etc/nomad.d
	cat >/etc/nomad.d/nomad.hcl <<-'CONF'
		data_dir  = "/opt/nomad/data"
		bind_addr = "0.0.0.0"

		advertise {
		  http = "10.99.0.2"
		  rpc  = "10.99.0.2"
		  serf = "10.99.0.2"
		}

		client {
		  enabled           = true
		  network_interface = "uplink"
		  servers           = ["127.0.0.1:4647"]

		  options = {
		    # The cloud probes wait 20 s for an answer that cannot come.
		    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault,cni"
		  }
		}
	CONF
	start_client
}

start_client() {
	daemon nomad nomad agent -config=/etc/nomad.d
	wait_for 40 nomad client_ready
}

# server_ready PORT: it can take a client's registration once it has a key to sign with.
server_ready() { command curl -sf "http://127.0.0.1:$1/.well-known/jwks.json" | grep '"kid"'; }

# The client has heard from its server since it started.
client_ready() { command curl -sf http://127.0.0.1:4646/v1/agent/self | grep '"heartbeat_ttl":' | grep -v '"heartbeat_ttl":"0s"'; }

# driver_healthy [OPTION...]: as Nomad tells.
driver_healthy() { command nomad node status -self -verbose "$@" | grep -E "^virt +true +true +Healthy"; }

# systemctl, for Nomad's service: it is back when the driver is healthy, which a reader
# hardly outruns.
systemctl() {
	local -
	set +x
	case $* in
	"restart nomad")
		end nomad
		start_client
		wait_for 30 nomad driver_healthy
		;;
	"stop nomad")
		end nomad
		end nomad-server
		;;
	*) die "systemctl $* is not played here" ;;
	esac
}

# terminal WHAT CMD...: an agent in a terminal of its own. A client asks the program ip
# for its interface, which every Debian has that boots, and not this one.
terminal() {
	local -
	set +x
	case $1 in
	server)
		daemon server "${@:2}"
		wait_for 30 server server_ready 4646
		;;
	client)
		daemon client "${@:2}" -network-interface=uplink
		wait_for 60 client driver_healthy -address=http://127.0.0.1:5656
		;;
	esac
}

# curl: Debian's image is the lab's own; and a guest that boots is asked again.
curl() {
	local -
	set +x
	case $* in
	"-Lo "*" https://cloud.debian.org/"*) cp "$STATE/given/debian-12.qcow2" "$2" ;;
	*)
		until_true 300 command curl -sf --max-time 3 "$@" || die "there is no answer in 300 s: curl $*"
		command curl -sf "$@"
		;;
	esac
}

# allocation, address: those of the reader's job, for those of the README's.
allocation() { nomad job allocs -t '{{ (index . 0).ID }}' python-server; }

address() {
	nomad alloc status -t '{{ with index .AllocatedResources.Shared.Ports 0 }}{{ .HostIP }}:{{ .Value }}{{ end }}' "$(allocation)"
}

# shows PATTERN: the commands that were followed last have shown a line like this.
shows() { grep -Eqx -- "$1" "$STATE/shown" || die "no line like $1 is shown"; }

# verdicts: of the doctor's lines what does not depend on the machine.
verdicts() { grep -E '^(ok|warning|problem) ' | cut -c 1-32; }

own_sys "$STATE/cgroup"
hide_kvm "$STATE/dev"
rm -rf "$logs"
mkdir -p "$logs"
start_libvirt
start_nomad

follow Install 2 5 | tee "$STATE/shown"
shows "virt +true +true +Healthy.*"

# shellcheck disable=SC2016 # they are called when the commands are run
REPLACED='s/6d9634d3/$(allocation)/; s/10\.99\.0\.2:20548/$(address)/' follow "A first job" | tee "$STATE/shown"
shows "hello from the allocation"
shows ".* virt-task-[0-9a-f]{8} +running"

# A job that would be refused makes the status 1.
REPLACED='s/.* validate .*/& \&\& exit 3 || [ $? = 1 ]/' follow "Check a host, and a job" | tee "$STATE/shown"
diff <(verdicts <README.md) <(verdicts <"$STATE/shown") || die "the README shows another doctor"
shows "ok +plugin_dir +/opt/nomad/plugins/nomad-driver-virt is this program"
shows "ok +pool local .*"
shows "job .*: the driver would refuse it; problems: 3, .*"
shows "default +python-server .* running"

PAGE=docs/install.md REPLACED='s/^nomad agent -config=examples.\([a-z]*\).*/terminal \1 &/' \
	follow "A server and a client, to try it" | tee "$STATE/shown"
shows "virt +true +true +Healthy.*"
