package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const multipartDoc = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

--outer
Content-Type: multipart/mixed; boundary=inner

--inner
Content-Type: text/cloud-config

runcmd: [the user's]
--inner
Content-Type: text/x-shellscript
Content-Transfer-Encoding: quoted-printable

#!/bin/sh
A=3D1
--inner--

--outer
Content-Type: text/plain

#!/bin/sh
B=2
--outer
Content-Type: text/jinja2

## template: jinja
--outer
Content-Type: text/cloud-config; charset="utf-8"
Content-Transfer-Encoding: base64
Merge-Type: list(append)

eyJib290Y21kIjpbIm91cnMiXSwicnVuY21kIjpbWyJvdXJzIiwi
MiJdXX0K
--outer--
`

func TestUserDataIsReadInAllItsForms(t *testing.T) {
	tests := []struct {
		name, doc string
		want      userData
		problems  int
	}{
		{name: "nothing", doc: ""},
		{
			name: "a cloud-config",
			doc:  "#cloud-config\nruncmd:\n- ls\n- [echo, 1]\nbootcmd: [mount]\npackages: [other keys are ignored]\n",
			want: userData{config: cloudConfig{BootCmd: []any{"mount"}, RunCmd: []any{"ls", []any{"echo", 1}}}},
		},
		{
			name: "a cloud-config in JSON",
			doc:  "#cloud-config\n" + `{"write_files":[{"path":"/a","content":"eA==","encoding":"b64","permissions":"0600"}]}`,
			want: userData{config: cloudConfig{WriteFiles: []file{
				{Path: "/a", Content: "eA==", Encoding: "b64", Permissions: "0600"},
			}}},
		},
		{
			name: "permissions that YAML takes for a number",
			doc:  "#cloud-config\nwrite_files: [{path: /a, permissions: 0644}]\n",
			want: userData{config: cloudConfig{WriteFiles: []file{{Path: "/a", Permissions: "0644"}}}},
		},
		{
			name: "a script",
			doc:  "#!/bin/sh\nkey: value\n",
			want: userData{scripts: []string{"#!/bin/sh\nkey: value\n"}},
		},
		{
			name: "a multi-part, with one part that is not understood",
			doc:  strings.ReplaceAll(multipartDoc, "\n", "\r\n"),
			want: userData{
				config: cloudConfig{
					BootCmd: []any{"ours"},
					RunCmd:  []any{"the user's", []any{"ours", "2"}},
				},
				scripts: []string{"#!/bin/sh\r\nA=1", "#!/bin/sh\r\nB=2"},
			},
			problems: 1,
		},
		{name: "no YAML", doc: "#cloud-config\na: [", problems: 1},
		{name: "an unknown form", doc: "hello\n", problems: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := parseUserData([]byte(tt.doc))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(userData{})); diff != "" {
				t.Errorf("user data (-want +got):\n%s", diff)
			}
			if len(problems) != tt.problems {
				t.Errorf("problems: want %d, got %q", tt.problems, problems)
			}
		})
	}
}

func TestFilesAreDecoded(t *testing.T) {
	tests := []struct {
		name    string
		file    file
		content string
		mode    uint32
		fails   bool
	}{
		{name: "plain", file: file{Content: "a\n"}, content: "a\n", mode: 0o644},
		{name: "b64", file: file{Content: "YQo=", Encoding: "b64", Permissions: "0600"}, content: "a\n", mode: 0o600},
		{name: "base64 in lines", file: file{Content: "YW\nJj\n", Encoding: "base64", Permissions: "0o755"}, content: "abc", mode: 0o755},
		{name: "unknown encoding", file: file{Encoding: "gz"}, fails: true},
		{name: "bad base64", file: file{Content: "%", Encoding: "b64"}, fails: true},
		{name: "bad permissions", file: file{Permissions: "rw"}, fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			content, err := tt.file.bytes()
			mode, modeErr := tt.file.mode()
			if failed := err != nil || modeErr != nil; failed != tt.fails {
				t.Fatalf("want failure %t, got %v, %v", tt.fails, err, modeErr)
			}
			if tt.fails {
				return
			}
			if string(content) != tt.content || uint32(mode) != tt.mode {
				t.Errorf("want %q with mode %o, got %q with %o", tt.content, tt.mode, content, mode)
			}
		})
	}
}

func TestCommandsBecomeOneScript(t *testing.T) {
	tests := []struct {
		name     string
		commands []any
		want     string
	}{
		{name: "none", want: ""},
		{name: "lines as they are", commands: []any{"A='1 2'", `echo "$A"`, 7}, want: "#!/bin/sh\nA='1 2'\necho \"$A\"\n7\n"},
		{name: "arguments quoted", commands: []any{[]any{"echo", "it's", "$A", 7}}, want: "#!/bin/sh\n'echo' 'it'\\''s' '$A' '7'\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, shellScript(tt.commands)); diff != "" {
				t.Errorf("script (-want +got):\n%s", diff)
			}
		})
	}
}
