package storage

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// baseName is how the plan names bases: by their content, 32 hex digits.
var baseName = regexp.MustCompile(`^base-[0-9a-f]{32}(\.qcow2)?$`)

func isBase(name string) bool { return baseName.MatchString(name) }

// Sweep removes the volumes whose time is over: those that were kept for
// somebody to look at, and bases that nobody has used for long. It returns what
// it removed, as "pool/name".
func (s *Store) Sweep(ctx context.Context, now time.Time) ([]string, error) {
	var removed []string
	var errs []error
	for poolName, pool := range s.pools {
		names, err := pool.List(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, name := range names {
			gone, err := s.sweepVolume(ctx, poolName, pool, name, now)
			if gone {
				removed = append(removed, poolName+"/"+name)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("removing volume %s of storage pool %s, whose time is over: %w", name, poolName, err))
			}
		}
	}
	return removed, errors.Join(errs...)
}

// inUseFor is how long a volume that others overlay is taken to be in use: to know
// takes a look at every volume of its pool.
const inUseFor = 10 * time.Minute

func (s *Store) sweepVolume(ctx context.Context, poolName string, pool Pool, name string, now time.Time) (gone bool, err error) {
	if until, kept := keptUntil(name); kept {
		key := volumeKey(poolName, name)
		if now.Before(until) || !s.due(key, now) {
			return false, nil
		}
		err := pool.RemoveUnused(ctx, name)
		if errors.Is(err, ErrInUse) { // somebody boots from it
			s.lookAgain(key, now.Add(inUseFor))
			return false, nil
		}
		if err == nil {
			s.lookAgain(key, time.Time{}) // of no use any more: no other has that name
		}
		return err == nil, err
	}
	if isBase(name) {
		return s.sweepBase(ctx, poolName, pool, name, now)
	}
	return false, nil
}

// sweepBase removes a base that is not in use and has not been for long. One
// that is in use is looked at again when it can be over at the earliest.
func (s *Store) sweepBase(ctx context.Context, poolName string, pool Pool, name string, now time.Time) (gone bool, err error) {
	key := volumeKey(poolName, name)
	if !s.due(key, now) {
		return false, nil
	}
	done, err := s.bases.Take(ctx, key)
	if err != nil {
		return false, err
	}
	defer done()
	used, err := pool.LastUsed(ctx, name)
	switch {
	case errors.Is(err, ErrNoVolume): // another host has removed it
		return false, nil
	case err != nil:
		return false, err
	case used.IsZero(): // it was made just now, or its maker has died
		return false, pool.Used(ctx, name)
	}
	if over := used.Add(s.unusedFor); now.Before(over) {
		s.lookAgain(key, over)
		return false, nil
	}
	err = pool.RemoveUnused(ctx, name)
	if errors.Is(err, ErrInUse) {
		s.lookAgain(key, now.Add(max(s.unusedFor, inUseFor)))
		return false, pool.Used(ctx, name)
	}
	return err == nil, err
}

func (s *Store) due(key string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !now.Before(s.notYet[key])
}

// lookAgain has a volume not be looked at before some time; the zero time: at once.
func (s *Store) lookAgain(key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.IsZero() {
		delete(s.notYet, key)
		return
	}
	s.notYet[key] = at
}
