package storage

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// fakePool is a pool in memory. It keeps the promises of Pool: the tests of real
// pools are run on it, too.
type fakePool struct {
	mu      sync.Mutex // guards the fields below
	volumes map[string]*fakeVolume
	imports int
	ensured bool

	// before is called before something is done with a volume, which it can hold
	// up, or have fail; nil: nothing is.
	before func(what, name string) error
}

type fakeVolume struct {
	content []byte // as a guest reads it
	parent  string
	used    time.Time
}

// on does something with a volume that is there.
func (p *fakePool) on(what, name string, do func(*fakeVolume) error) error {
	if p.before != nil {
		if err := p.before(what, name); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v, is := p.volumes[name]
	if !is {
		return ErrNoVolume
	}
	return do(v)
}

// add makes a volume that is there in part, and then does something with it.
func (p *fakePool) add(what string, v vm.Volume, do func(*fakeVolume) error) error {
	p.mu.Lock()
	if p.volumes == nil {
		p.volumes = make(map[string]*fakeVolume)
	}
	p.volumes[v.Name] = &fakeVolume{content: make([]byte, v.Size), parent: v.Parent}
	p.mu.Unlock()
	return p.on(what, v.Name, do)
}

func (p *fakePool) Ensure(context.Context) error {
	p.ensured = true
	return nil
}

func (p *fakePool) Source(_ context.Context, name, _ string) (s Source, err error) {
	err = p.on("source", name, func(v *fakeVolume) error {
		s.Volume = vm.Volume{Pool: "pool", Name: name, Format: image.Raw, Size: vm.Bytes(len(v.content))}
		return nil
	})
	return s, err
}

func (p *fakePool) Exists(_ context.Context, name string) (bool, error) {
	return p.on("exists", name, func(*fakeVolume) error { return nil }) == nil, nil
}

func (p *fakePool) Create(_ context.Context, v vm.Volume) error {
	return p.add("create", v, func(*fakeVolume) error { return nil })
}

func (p *fakePool) Import(_ context.Context, c image.Copy) error {
	return p.add("import", c.To, func(v *fakeVolume) error {
		p.imports++
		_, err := io.ReadFull(io.NewSectionReader(c.File, 0, int64(c.Image.Size)), v.content[:c.Image.Size])
		return err
	})
}

func (p *fakePool) Overlay(_ context.Context, v, parent vm.Volume) error {
	return p.on("overlay", parent.Name, func(from *fakeVolume) error {
		content := slices.Concat(from.content, make([]byte, int(v.Size)-len(from.content)))
		p.volumes[v.Name] = &fakeVolume{content: content, parent: parent.Name}
		return nil
	})
}

func (p *fakePool) Rename(_ context.Context, v vm.Volume, to string) error {
	return p.on("rename", v.Name, func(from *fakeVolume) error {
		if _, taken := p.volumes[to]; taken {
			return ErrExist
		}
		p.volumes[to] = from
		delete(p.volumes, v.Name)
		return nil
	})
}

func (p *fakePool) Remove(ctx context.Context, v vm.Volume) error {
	if p.before != nil {
		if err := p.before("remove", v.Name); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.volumes, v.Name)
	return ctx.Err()
}

func (p *fakePool) List(context.Context) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.volumes)), nil
}

func (p *fakePool) Used(_ context.Context, base string) error {
	return p.on("used", base, func(v *fakeVolume) error { v.used = time.Now(); return nil })
}

func (p *fakePool) LastUsed(_ context.Context, base string) (used time.Time, err error) {
	err = p.on("last used", base, func(v *fakeVolume) error { used = v.used; return nil })
	return used, err
}

func (p *fakePool) RemoveUnused(_ context.Context, name string) error {
	err := p.on("remove unused", name, func(*fakeVolume) error {
		for _, v := range p.volumes {
			if v.parent == name {
				return ErrInUse
			}
		}
		delete(p.volumes, name)
		return nil
	})
	if errors.Is(err, ErrNoVolume) {
		return nil
	}
	return err
}
