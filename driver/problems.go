package driver

import (
	"fmt"
	"strings"
)

// problems collects all that is wrong with a configuration, so that its author
// learns of it at once. Each names the attribute by its path.
type problems []string

func (p *problems) addf(path, format string, args ...any) {
	*p = append(*p, path+": "+fmt.Sprintf(format, args...))
}

// err returns nil when there are no problems.
func (p problems) err(of string) error {
	switch len(p) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s: %s", of, p[0])
	}
	numbered := make([]string, len(p))
	for i, problem := range p {
		numbered[i] = fmt.Sprintf("(%d) %s", i+1, problem)
	}
	return fmt.Errorf("%s has %d problems: %s", of, len(p), strings.Join(numbered, " "))
}
