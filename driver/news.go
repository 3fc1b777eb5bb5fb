package driver

import "time"

// tellAgainEvery is how often a warning is repeated that has not changed: whoever
// reads the end of a log is to find it.
const tellAgainEvery = time.Hour

// news is what was told last of something that is tried again and again. It is one
// goroutine's.
type news struct {
	said string // "": it went well
	at   time.Time
}

// is notes how the last try went, and tells whether that is to be told: an error that
// is another than the one before, or was told long ago.
func (n *news) is(err error, now time.Time) bool {
	if err == nil {
		*n = news{}
		return false
	}
	if err.Error() == n.said && now.Sub(n.at) < tellAgainEvery {
		return false
	}
	*n = news{err.Error(), now}
	return true
}
