package image

import (
	"time"

	"nomad-driver-virt/vm"
)

// parallel is how qemu-img copies: 8 requests at once, of which each is written
// when it was read. A qcow2 of 2 GiB of data takes a third to a half of the
// time that it takes by default; 16 or other cache modes are no faster.
var parallel = []string{"-W", "-m", "8"}

// Address space, measured with qemu-img 7.2 and 8 requests at once: 390 MiB at
// most for a disk of 12 GiB, and 500 MiB with librbd. Each of QEMU's 64 threads
// for I/O has a stack, and the tables of the largest disks some 100 MiB.
const (
	qemuMemory = 2 * vm.GiB
	rbdMemory  = 4 * vm.GiB
	// threadStack would be the host's setting, which may be any.
	threadStack = 8 * vm.MiB
)

func infoLimits() limits {
	return limits{memory: qemuMemory, cpu: 10 * time.Second}
}

func checkLimits(size vm.Bytes) limits {
	return limits{memory: qemuMemory, cpu: perGiB(size, 10*time.Second)}
}

func convertLimits(size, file vm.Bytes) limits {
	return limits{memory: qemuMemory, cpu: perGiB(size, time.Minute), file: file}
}

func rbdLimits(size vm.Bytes) limits {
	return limits{memory: rbdMemory, cpu: perGiB(size, time.Minute)}
}

// perGiB is a minute, and some time for each GiB of a disk.
func perGiB(size vm.Bytes, each time.Duration) time.Duration {
	return time.Minute + time.Duration(size/vm.GiB+1)*each
}

// fileLimit is the largest that the file of a disk can become.
func fileLimit(format string, size vm.Bytes) vm.Bytes {
	if format == Qcow2 {
		size += qcow2Metadata(size)
	}
	return size + vm.MiB
}

// qcow2Metadata is the most that the tables of a qcow2 take: for each cluster
// of 64 KiB 8 bytes in the L2 tables and 2 in the refcounts, 8 bytes in the L1
// table for each of the L2 tables, and some clusters that are begun.
func qcow2Metadata(size vm.Bytes) vm.Bytes {
	clusters := size/(64*vm.KiB) + 1
	return clusters*8 + clusters*2 + clusters/1024 + vm.MiB
}
