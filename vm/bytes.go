package vm

import "fmt"

// Bytes is a size in bytes.
type Bytes uint64

// Binary units.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// String writes the size in the largest binary unit that it reaches, exactly
// where that is possible: "10GiB", "1.5GiB", "100 bytes".
func (b Bytes) String() string {
	for _, u := range []struct {
		unit Bytes
		name string
	}{{1 << 40, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		switch {
		case b < u.unit:
		case b%u.unit == 0:
			return fmt.Sprintf("%d%s", b/u.unit, u.name)
		default:
			return fmt.Sprintf("%.1f%s", float64(b)/float64(u.unit), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", b)
}
