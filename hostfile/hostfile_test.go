package hostfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOpenFindsFilesWhereTasksMayHaveThem(t *testing.T) {
	top := tree(t)
	search := Search{
		Roots: []string{filepath.Join(top, "missing"), filepath.Join(top, "images"), filepath.Join(top, "alloc")},
		Guest: map[string]string{"/local": filepath.Join(top, "alloc", "task", "local")},
	}
	for name, want := range map[string]string{
		filepath.Join(top, "images", "debian.img"): "debian", // as it is
		"debian.img":                      "debian", // below a root
		"task/local/own.img":              "own",    // below another
		"/local/own.img":                  "own",    // as the guest sees it
		"/local/../local/own.img":         "own",    //
		"inside.img":                      "debian", // a link that stays inside
		"task/local/../../across.img":     "across", // ".." that stays inside
		"../images/debian.img":            "debian", // and one that comes back
		filepath.Join(top, "via/one.img"): "one",    // the root is reached by a link
	} {
		t.Run(strings.ReplaceAll(name, top, ""), func(t *testing.T) {
			s := search
			s.Roots = append(s.Roots, filepath.Join(top, "via"))
			file, err := s.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			got := make([]byte, 100)
			n, _ := file.Read(got)
			if string(got[:n]) != want {
				t.Errorf("opened a file that holds %q, want %q", got[:n], want)
			}
		})
	}
}

func TestPlacesAreWhereNamesAreLookedFor(t *testing.T) {
	top := tree(t)
	search := Search{Roots: []string{filepath.Join(top, "images")}, Places: []string{top}}
	for name, want := range map[string]error{"images/debian.img": nil, "debian.img": ErrNotFound, "secret": ErrOutside} {
		file, err := search.Open(name)
		if err == nil {
			file.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", name, err, want)
		}
	}
}

func TestOpenRefusesWhatIsOutside(t *testing.T) {
	top := tree(t)
	search := Search{
		Roots: []string{filepath.Join(top, "images")},
		Guest: map[string]string{"/local": filepath.Join(top, "images")},
	}
	for name, want := range map[string]error{
		"nothing.img":                ErrNotFound,
		"debian.img/below-a-file":    ErrNotFound,
		"/local/nothing.img":         ErrNotFound,
		"../images-evil/evil.img":    ErrOutside, // a name that only looks alike
		filepath.Join(top, "secret"): ErrOutside,
		"../secret":                  ErrOutside,
		"outside.img":                ErrOutside, // by a link
		"dir-link/secret":            ErrOutside, // by a linked directory
		"/local/../secret":           ErrNotFound,
	} {
		t.Run(strings.ReplaceAll(name, top, ""), func(t *testing.T) {
			file, err := search.Open(name)
			if err == nil {
				file.Close()
			}
			if !errors.Is(err, want) {
				t.Errorf("got error %v, want %v", err, want)
			}
		})
	}
}

func TestOpenTakesRegularFilesOnly(t *testing.T) {
	top := tree(t)
	if err := syscall.Mkfifo(filepath.Join(top, "images", "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "sub"} {
		file, err := Search{Roots: []string{filepath.Join(top, "images")}}.Open(name)
		if err == nil {
			file.Close()
			t.Errorf("%s was opened", name)
		}
	}
}

func tree(t *testing.T) string {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{
		"images/debian.img":        "debian",
		"images/sub/x":             "x",
		"images-evil/evil.img":     "evil",
		"secret":                   "secret",
		"alloc/across.img":         "across",
		"alloc/task/local/own.img": "own",
		"elsewhere/one.img":        "one",
	} {
		path = filepath.Join(top, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"images/inside.img":  "debian.img",
		"images/outside.img": "../secret",
		"images/dir-link":    "..",
		"via":                "elsewhere",
	} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	return top
}
