package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Examples lists the example jobs of the project, those in folders too. Files of
// agents are left out.
func Examples(t *testing.T, project string) (jobs []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(project, "examples"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".nomad.hcl") {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), "\njob \"") {
			jobs = append(jobs, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}
