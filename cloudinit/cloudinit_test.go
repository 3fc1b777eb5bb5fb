package cloudinit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"nomad-driver-virt/vm"
)

func plainSeed() vm.Seed {
	return vm.Seed{InstanceID: "web-0123abcd", Hostname: "nomad-web-0123abcd"}
}

func fullSeed() vm.Seed {
	seed := plainSeed()
	seed.Timezone = "Europe/Berlin"
	seed.Password = "pass\"word'\x7f\u0085 grüße 😀"
	seed.AuthorizedKey = "ssh-ed25519 AAAAC3Nza someone@example.org"
	seed.Cmds = []string{"cd /local", `echo "it's $HOME: {{ x }} # \x07"`}
	seed.Env = map[string]string{"NOMAD_TASK_NAME": "web", "GREETING": "it's $HOME\n", "A-B": "no name"}
	seed.Shares = []vm.Share{
		{Type: vm.VirtioFS, Tag: "alloc", Target: "/alloc", ReadOnly: true},
		{Type: vm.NineP, Tag: "data", Target: "/mnt/my data"},
	}
	return seed
}

// entity is a part of user data as cloud-init meets it.
type entity struct {
	header mail.Header
	body   string
}

// entities returns the parts of user data, those of documents within it too.
func entities(t *testing.T, header mail.Header, body io.Reader) []entity {
	t.Helper()
	contentType, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if header.Get("Content-Transfer-Encoding") == "base64" {
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	if !strings.HasPrefix(contentType, "multipart/") {
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		return []entity{{header, string(b)}}
	}
	var list []entity
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, entities(t, mail.Header(p.Header), p)...)
	}
}

func parts(t *testing.T, userData []byte) []entity {
	t.Helper()
	message, err := mail.ReadMessage(bytes.NewReader(userData))
	if err != nil {
		t.Fatal(err)
	}
	return entities(t, message.Header, message.Body)
}

func documents(t *testing.T, seed vm.Seed) Files {
	t.Helper()
	files, err := Documents(seed)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDocuments(t *testing.T) {
	for name, seed := range map[string]vm.Seed{"plain": plainSeed(), "full": fullSeed()} {
		t.Run(name, func(t *testing.T) {
			files := documents(t, seed)
			golden(t, name+"/meta-data", files.MetaData)
			ours := parts(t, files.UserData)[0]
			golden(t, name+"/cloud-config", []byte(ours.body))
			for path, content := range writtenFiles(t, ours.body) {
				golden(t, name+path, content)
			}
		})
	}
	seed := plainSeed()
	seed.UserData = []byte("#cloud-config\nruncmd: [echo user]\n")
	golden(t, "user-data", documents(t, seed).UserData)
}

// writtenFiles reads our cloud-config back as YAML.
func writtenFiles(t *testing.T, cloudConfig string) map[string][]byte {
	t.Helper()
	var doc struct {
		WriteFiles []struct{ Path, Content string } `yaml:"write_files"`
	}
	if err := yaml.Unmarshal([]byte(cloudConfig), &doc); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range doc.WriteFiles {
		content, err := base64.StdEncoding.DecodeString(f.Content)
		if err != nil {
			t.Fatal(err)
		}
		files[f.Path] = content
	}
	return files
}

func TestDocumentsAreTheSameForTheSameSeed(t *testing.T) {
	if diff := cmp.Diff(documents(t, fullSeed()), documents(t, fullSeed())); diff != "" {
		t.Errorf("two documents of one seed differ:\n%s", diff)
	}
}

func TestOnlyRootReadsSecretsOnDisk(t *testing.T) {
	c := newConfig(fullSeed())
	want := map[string]string{envScript: "0600", environment: "0600", runScript: "0700", profile: "0644"}
	got := map[string]string{}
	for _, f := range c.WriteFiles {
		got[f.Path] = f.Permissions
		if f.Path == profile && bytes.Contains(f.Content, []byte("GREETING")) {
			t.Errorf("%s, which everybody reads, holds the environment", f.Path)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("permissions (-want +got):\n%s", diff)
	}
}

func TestASCIIJSONIsTheSameValueInYAML(t *testing.T) {
	var all strings.Builder
	for r := rune(1); r < 0x2100; r++ {
		all.WriteRune(r)
	}
	all.WriteString("\ue000\ufeff\ufffd😀\U0010fffd <&> \u2028")
	encoded, err := asciiJSON([]string{all.String()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range encoded {
		if c != '\n' && (c < ' ' || c > '~') {
			t.Fatalf("holds the byte %#x, want printable ASCII alone", c)
		}
	}
	var got []string
	if err := yaml.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{all.String()}, got); diff != "" {
		t.Errorf("value (-want +got):\n%s", diff)
	}
	var plain []string
	if encoded, err = asciiJSON([]string{"\x01\x7fé"}); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(encoded, &plain); err != nil || plain[0] != "\x01\x7fé" {
		t.Errorf("is %q as JSON (%v)", plain, err)
	}
}
