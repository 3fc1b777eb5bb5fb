package rbd

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Clone makes a volume that shares what is in another until it is written;
// ErrNotExist, ErrExist. The snapshot that this takes is removed at once: Ceph
// keeps it unseen for as long as the clone lives, and removes it by itself. If
// Clone fails or is interrupted Forget removes what it may have left.
//
// See https://docs.ceph.com/en/pacific/rbd/rbd-snapshot/#layering
func (p Pool) Clone(ctx context.Context, from, to string) error {
	asked := fmt.Sprintf("cloning volume %s as %s", from, to)
	snapshot := p.snapshot(from, to)
	_, err := p.rbd(ctx, asked, "snap", "create", snapshot)
	if errors.Is(err, ErrExist) {
		// Of a Clone that was interrupted, maybe long ago: not of what the volume
		// holds now.
		if err = p.Forget(ctx, from, to); err == nil {
			_, err = p.rbd(ctx, asked, "snap", "create", snapshot)
		}
	}
	if err != nil {
		return err
	}
	// Version 2 is what needs no protected snapshot.
	_, err = p.rbd(ctx, asked, "clone", "--rbd-default-clone-format", "2", snapshot, p.spec(to))
	if left := p.Forget(ctx, from, to); err == nil {
		err = left
	}
	return err
}

// Forget removes the snapshot that an interrupted Clone left on a volume. No
// such snapshot, and no such volume, is no error.
func (p Pool) Forget(ctx context.Context, from, to string) error {
	_, err := p.rbd(ctx, fmt.Sprintf("removing snapshot %s of volume %s", to, from),
		"snap", "rm", "--no-progress", p.snapshot(from, to))
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// snapshot is how rbd is told of the snapshot that a clone is made from.
func (p Pool) snapshot(from, to string) string {
	volume := p.spec(from)
	if volume == "" || p.spec(to) == "" {
		return ""
	}
	return volume + "@" + to
}

// usedKey is where a volume's metadata says when it was last used. Clones are
// made with the metadata of what they are made from, and so with this.
const usedKey = "nomad-driver-virt.used"

// Touch notes, with a volume, when it was last used; ErrNotExist.
func (p Pool) Touch(ctx context.Context, name string, at time.Time) error {
	_, err := p.rbd(ctx, "noting the last use of volume "+name,
		"image-meta", "set", p.spec(name), usedKey, at.UTC().Format(time.RFC3339))
	return err
}

// Touched returns what Touch noted last, to the second; the zero time if it
// never did, ErrNotExist if there is no such volume.
func (p Pool) Touched(ctx context.Context, name string) (time.Time, error) {
	asked := "reading the last use of volume " + name
	out, err := p.rbd(ctx, asked, "image-meta", "list", "--format", "json", p.spec(name))
	if err != nil {
		return time.Time{}, err
	}
	at, err := parseUsed(out)
	return at, p.read(asked, err)
}
