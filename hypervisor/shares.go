package hypervisor

import (
	"context"
	"errors"

	"github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"
)

// SetCPUShares sets what part of the host's CPUs a domain that runs gets when all
// of them are busy: shares beside the sum of all others', 1024 being one usual
// process's. 0 leaves it as it is. Where libvirt cannot do so, for one because its
// control groups are off, all are equal, and that is no error.
//
// See <shares> in https://libvirt.org/formatdomain.html#cpu-tuning
func (h *Host) SetCPUShares(ctx context.Context, name string, shares uint64) error {
	if shares == 0 {
		return nil
	}
	if isUnified(cgroups) {
		shares = weightOf(shares)
	}
	params := []libvirt.TypedParam{{Field: libvirt.DomainSchedulerCPUShares, Value: *libvirt.NewTypedParamValueUllong(shares)}}
	err := h.doDomain(ctx, "setting the CPU shares of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainSetSchedulerParametersFlags(d, params, uint32(libvirt.DomainAffectLive))
	})
	if refused := new(libvirt.Error); errors.As(err, refused) && !errors.Is(err, ErrNoDomain) {
		return nil
	}
	return err
}

// cgroups is where control groups are.
const cgroups = "/sys/fs/cgroup"

// isUnified tells whether control groups are of version 2, for which libvirt takes
// weights for shares.
func isUnified(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// weightOf is a weight of control groups of version 2, 1 to 10000, for shares of
// version 1, 2 to 262144: the same that container runtimes take.
//
// See https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#cpu
func weightOf(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}
