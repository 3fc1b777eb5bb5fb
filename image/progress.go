package image

import (
	"bytes"
	"strconv"
)

// progress reads what qemu-img -p writes, and tells it.
type progress struct {
	tell func(done float64)
	rest []byte // of a figure that is not complete
}

func (p *progress) Write(text []byte) (int, error) {
	if p.tell == nil {
		return len(text), nil
	}
	done, rest, ok := lastProgress(append(p.rest, text...))
	p.rest = bytes.Clone(rest)
	if ok {
		p.tell(done)
	}
	return len(text), nil
}

// lastProgress finds the last whole figure in a text like "    (12.34/100%)\r",
// as a part of 1, and returns what is behind it: at most the start of another.
func lastProgress(text []byte) (done float64, rest []byte, ok bool) {
	for {
		figure, behind, whole := bytes.Cut(text, []byte("/100%)"))
		if !whole {
			const longest = len("    (100.00/100%)\r")
			return done, text[max(0, len(text)-longest):], ok
		}
		text = behind
		percent, err := strconv.ParseFloat(string(figure[bytes.LastIndexByte(figure, '(')+1:]), 64)
		if err == nil && percent >= 0 && percent <= 100 {
			done, ok = percent/100, true
		}
	}
}
