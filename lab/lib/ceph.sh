# shellcheck shell=bash
# A Ceph with one monitor and one OSD, on demand. Its files are in /run/lab/ceph,
# and /etc/ceph is empty: the driver, libvirt and QEMU have to find their way by
# the driver's configuration alone.

CEPH_MON='[v2:10.99.0.2:3300,v1:10.99.0.2:6789,v2:[fd99::2]:3300,v1:[fd99::2]:6789]'
CEPH_DIR=/run/lab/ceph

# prepare_ceph makes the keys: Nomad's configuration names one before Ceph runs.
prepare_ceph() {
	local dir=$LAB_RUN/ceph
	mkdir -p "$dir"
	ceph-authtool --gen-print-key >"$dir/nomad.key"
	write_ceph_keys "$(cat "$dir/nomad.key")" >"$dir/keyring"
	write_ceph_config >"$dir/ceph.conf"
}

# write_ceph_keys KEY: the keys of all, KEY that of Nomad.
write_ceph_keys() {
	cat <<-KEYS
		[mon.]
		key = $(ceph-authtool --gen-print-key)
		caps mon = "allow *"
		[client.admin]
		key = $(ceph-authtool --gen-print-key)
		caps mon = "allow *"
		caps osd = "allow *"
		[osd.0]
		key = $(ceph-authtool --gen-print-key)
		caps mon = "profile osd"
		caps osd = "allow *"
		[client.nomad]
		key = $1
		caps mon = "profile rbd"
		caps osd = "profile rbd pool=nomad-pool"
	KEYS
}

write_ceph_config() {
	cat <<-CONF
		[global]
		fsid = $(cat /proc/sys/kernel/random/uuid)
		mon host = $CEPH_MON
		keyring = $CEPH_DIR/keyring
		run dir = $CEPH_DIR
		crash dir = $CEPH_DIR
		ms bind ipv4 = true
		ms bind ipv6 = true
		public network = 10.99.0.0/24, fd99::/64
		auth allow insecure global id reclaim = false
		osd pool default size = 1
		osd pool default min size = 1
		mon allow pool size one = true
		mon warn on pool no redundancy = false
		osd crush chooseleaf type = 0

		[mon]
		mon data = $CEPH_DIR/mon
		mon osd full ratio = 0.75
		mon osd backfillfull ratio = 0.74
		mon osd nearfull ratio = 0.73
		# What is left on the machine's disk says nothing about Ceph.
		mon data avail crit = 0
		mon data avail warn = 1
		# Changes are not collected for a second before they are made.
		paxos propose interval = 0.05
		paxos min wait = 0.01
		log file =
		log to stderr = true

		[osd]
		osd data = $CEPH_DIR/osd
		# That of Debian 13 looks for them below the folder at hand.
		osd class dir = /usr/lib/$(uname -m)-linux-gnu/rados-classes
		# A sparse file; what is in it takes no memory. It is full at 6 of 8 GiB: an OSD
		# tells how full it is now and then, and dies when there is nothing left.
		bluestore block size = $((8 << 30))
		osd heartbeat interval = 1
		bluestore cache autotune = false
		bluestore cache size = $((64 << 20))
		# To make and to start an OSD takes 1 s rather than 7 s.
		bluestore fsck on mkfs = false
		bdev aio poll ms = 10
		osd op num shards = 1
		debug rocksdb = 0
		debug bluestore = 0
		debug bluefs = 0
		debug bdev = 0
		log file =
		log to stderr = true
	CONF
}

# Ceph answers when the OSD has read of the pool. A client that asked too early
# may wait 10 s at the address of an earlier OSD: it gives up after 1 s.
ceph_answers() {
	inside rbd -c "$CEPH_DIR/ceph.conf" --id nomad --client-mount-timeout 5 --rados-osd-op-timeout 1 ls nomad-pool
}

# start_ceph starts what does not run, then gives the pool to Nomad's client.
start_ceph() {
	[ -e "$LAB_RUN/ceph/made" ] || make_ceph
	is_running ceph-mon || start ceph-mon ceph-mon -c "$CEPH_DIR/ceph.conf" -f -i a
	is_running ceph-osd || start ceph-osd ceph-osd -c "$CEPH_DIR/ceph.conf" -f -i 0
	if ! until_true 30 ceph_answers; then
		show_log "$LAB_LOGS/ceph-make.log"
		show_log "$LAB_LOGS/ceph-mon.log"
		show_log "$LAB_LOGS/ceph-osd.log"
		die "Ceph does not answer"
	fi
	: >"$LAB_RUN/ceph/made"
	configure_nomad 's|^#ceph#|/*ceph*/|'
}

# make_ceph leaves a monitor that runs, and an OSD that does not yet. One that never
# answered is made anew at the next start.
make_ceph() {
	local dir=$LAB_RUN/ceph id
	break_ceph
	rm -rf "$dir"/{mon,osd,monmap}
	mkdir "$dir/osd"
	id=$(sed -n 's/^fsid = //p' "$dir/ceph.conf")
	inside monmaptool --create --fsid "$id" --addv a "$CEPH_MON" "$CEPH_DIR/monmap" >>"$LAB_LOGS/ceph-make.log"
	make_ceph_part ceph-mon -i a --monmap "$CEPH_DIR/monmap"
	make_ceph_part ceph-osd -i 0 --osd-uuid "$id" --no-mon-config
	start ceph-mon ceph-mon -c "$CEPH_DIR/ceph.conf" -f -i a
	inside timeout 30 ceph -c "$CEPH_DIR/ceph.conf" >>"$LAB_LOGS/ceph-make.log" 2>&1 <<-COMMANDS
		osd new $id 0
		osd pool create nomad-pool 8 8 replicated
		osd pool application enable nomad-pool rbd
	COMMANDS
}

make_ceph_part() {
	local log=$LAB_LOGS/ceph-make.log
	inside "$1" -c "$CEPH_DIR/ceph.conf" --mkfs "${@:2}" >>"$log" 2>&1 && return
	show_log "$log"
	die "$1 cannot be made"
}

# stop_ceph takes the pool from Nomad's client, since the driver is unhealthy where
# a pool is out of reach, and stops Ceph. What is in it is there at the next start.
stop_ceph() {
	configure_nomad 's|^/\*ceph\*/|#ceph#|'
	stop ceph-osd 10 # the first: it takes its leave of the monitor
	stop ceph-mon 10
}

# break_ceph ends Ceph under Nomad's feet.
break_ceph() {
	local part
	for part in ceph-osd ceph-mon; do
		send "$part" KILL
		until_true 10 is_stopped "$part"
	done
}
