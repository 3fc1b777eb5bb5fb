package cloudinit

import (
	"bytes"
	"compress/gzip"
	"mime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const secret = "hunter2"

func gzipped(data string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(data))
	_ = w.Close()
	return b.String()
}

// mimeDocument holds a cloud-config with headers of its own, and a script in a
// document within the document.
const mimeDocument = `From nobody Tue Jan  1 00:00:00 2030
Content-Type: multipart/mixed; boundary="outer"
MIME-Version: 1.0

--outer
Content-Type: text/cloud-config
Merge-Type: list(append)
Launch-Index: 0

#cloud-config
runcmd: [echo user]
--outer
Content-Type: multipart/mixed; boundary="inner"

--inner
Content-Type: text/x-shellscript
Content-Disposition: attachment; filename="setup.sh"

#!/bin/sh
--inner--
--outer--
`

// wrapped returns a cloud-config within MIME documents within each other.
func wrapped(levels int) string {
	doc := "Content-Type: text/cloud-config\n\n#cloud-config\n"
	for i := range levels {
		b := "b" + strings.Repeat("x", i)
		doc = "Content-Type: multipart/mixed; boundary=" + b + "\n\n--" + b + "\n" + doc + "\n--" + b + "--\n"
	}
	return "MIME-Version: 1.0\n" + doc
}

func TestUserDataKeepsItsFormBesideOurs(t *testing.T) {
	const config = "#cloud-config\nruncmd: [echo user]\n"
	for name, c := range map[string]struct {
		data string
		want []entity // the user's parts
	}{
		"none":            {data: ""},
		"white space":     {data: " \n\t\n"},
		"cloud-config":    {data: config, want: plain(config)},
		"byte order mark": {data: "\ufeff\r\n" + config, want: plain(config)},
		"another case":    {data: "#Cloud-Config\na: 1", want: plain("#Cloud-Config\na: 1")},
		"empty cloud-config": {data: "#cloud-config\n# nothing\n",
			want: plain("#cloud-config\n# nothing\n")},
		"line ends of DOS":     {data: "#cloud-config\r\na: 1\r\n", want: plain("#cloud-config\r\na: 1\r\n")},
		"mentions MIME":        {data: config + "# MIME-Version: 1.0\n", want: plain(config + "# MIME-Version: 1.0\n")},
		"script":               {data: "\n#!/bin/sh\necho $HOME\n", want: plain("#!/bin/sh\necho $HOME\n")},
		"template":             {data: "## template: jinja\n#cloud-config\n{% if x %}", want: plain("## template: jinja\n#cloud-config\n{% if x %}")},
		"include":              {data: "#include\nhttp://example.org/x\n", want: plain("#include\nhttp://example.org/x\n")},
		"include once":         {data: "#include-once\nhttp://example.org/x\n", want: plain("#include-once\nhttp://example.org/x\n")},
		"archive":              {data: "#cloud-config-archive\n- \"#!/bin/sh\"\n", want: plain("#cloud-config-archive\n- \"#!/bin/sh\"\n")},
		"JSON patch":           {data: "#cloud-config-jsonp\n[]", want: plain("#cloud-config-jsonp\n[]")},
		"part handler":         {data: "#part-handler\nimport os\n", want: plain("#part-handler\nimport os\n")},
		"boot hook":            {data: "#cloud-boothook\nid\n", want: plain("#cloud-boothook\nid\n")},
		"gzip":                 {data: gzipped(config), want: plain(config)},
		"gzip of a script":     {data: gzipped("#!/bin/sh\n"), want: plain("#!/bin/sh\n")},
		"MIME":                 {data: mimeDocument, want: ofMIMEDocument},
		"MIME, compressed":     {data: gzipped(mimeDocument), want: ofMIMEDocument},
		"MIME with DOS's ends": {data: strings.ReplaceAll(mimeDocument, "\n", "\r\n"), want: withDOSEnds(ofMIMEDocument)},
		"MIME of a single part": {
			data: "MIME-Version: 1.0\nContent-Type: text/cloud-config\nMerge-Type: str()\n\n" + config,
			want: []entity{{map[string][]string{"Content-Type": {"text/cloud-config"}, "Merge-Type": {"str()"},
				"Mime-Version": {"1.0"}}, config}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckUserData([]byte(c.data)); err != nil {
				t.Fatalf("CheckUserData: %v", err)
			}
			seed := plainSeed()
			alone := documents(t, seed)
			seed.UserData = []byte(c.data)
			got := parts(t, documents(t, seed).UserData)
			want := slices.Concat(c.want, parts(t, alone.UserData))
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(entity{})); diff != "" {
				t.Errorf("parts, ours last (-want +got):\n%s", diff)
			}
			if last := got[len(got)-1].header.Get("Merge-Type"); last != mergeType {
				t.Errorf("our part merges by %q, want %q", last, mergeType)
			}
		})
	}
}

func plain(text string) []entity {
	return []entity{{map[string][]string{
		"Content-Type":              {`text/plain; charset="utf-8"`},
		"Content-Transfer-Encoding": {"base64"},
	}, text}}
}

var ofMIMEDocument = []entity{
	{map[string][]string{"Content-Type": {"text/cloud-config"}, "Merge-Type": {"list(append)"}, "Launch-Index": {"0"}},
		"#cloud-config\nruncmd: [echo user]"},
	{map[string][]string{"Content-Type": {"text/x-shellscript"},
		"Content-Disposition": {`attachment; filename="setup.sh"`}}, "#!/bin/sh"},
}

func withDOSEnds(list []entity) []entity {
	var dos []entity
	for _, e := range list {
		dos = append(dos, entity{e.header, strings.ReplaceAll(e.body, "\n", "\r\n")})
	}
	return dos
}

func TestCheckUserDataRefuses(t *testing.T) {
	config := func(encoding, body string) string {
		return "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" +
			"Content-Type: text/cloud-config\nContent-Transfer-Encoding: " + encoding + "\n\n" + body + "\n--b--\n"
	}
	for name, c := range map[string]struct{ data, want string }{
		"no form":                 {"password: " + secret, "no form that cloud-init knows"},
		"an unknown form":         {"#upstart-job\n" + secret, "no form that cloud-init knows"},
		"not UTF-8":               {"#!/bin/sh\n\xff" + secret, "not UTF-8"},
		"not YAML":                {"#cloud-config\na: b\npassword: [" + secret + "\n", "not YAML (near line 2"},
		"a tab":                   {"#cloud-config\na:\n\tb: " + secret + "\n", "not YAML (near line 3"},
		"an unknown anchor":       {"#cloud-config\na: *" + secret + "\n", "not YAML (unknown anchor referenced)"},
		"a list":                  {"#cloud-config\n- " + secret + "\n", "top level of the cloud-config is a list (line 2)"},
		"a plain value":           {"#cloud-config\n" + secret + "\n", "is a plain value (line 2)"},
		"two documents":           {"#cloud-config\na: 1\n---\nb: " + secret + "\n", "make it one document"},
		"two documents, one bad":  {"#cloud-config\na: 1\n---\n[" + secret, "make it one document"},
		"runcmd without a list":   {"#cloud-config\na: 1\nruncmd:\n", "runcmd in the cloud-config is not a list (line 3)"},
		"write_files as mapping":  {"#cloud-config\nwrite_files: {path: " + secret + "}\n", "write_files in the cloud-config is not a list"},
		"bootcmd by an anchor":    {"#cloud-config\na: &x text\nbootcmd: *x\n", "bootcmd in the cloud-config is not a list"},
		"an archive of no list":   {"#cloud-config-archive\na: " + secret, "make it a list"},
		"gzip, cut":               {gzipped("#cloud-config\n" + secret)[:20], "does not decompress"},
		"gzip, too large":         {gzipped("#!" + strings.Repeat("x", int(maxUnpacked))), "more than 16MiB"},
		"gzip of gzip":            {gzipped(gzipped("#!/bin/sh")), "not UTF-8"},
		"MIME without boundary":   {"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n" + secret, "without a boundary"},
		"MIME without parts":      {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + secret, "does not begin or end"},
		"MIME, cut":               {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n" + secret, "does not end"},
		"MIME, broken header":     {"MIME-Version: 1.0\n" + secret + "\n\n", "header cannot be read"},
		"MIME, too deep":          {wrapped(maxNesting + 1), "more than 8 levels"},
		"MIME, not YAML":          {config("7bit", "#cloud-config\na: ["+secret), "not YAML"},
		"MIME, not YAML, base64":  {config("base64", "I2Nsb3VkLWNvbmZpZwphOiBb"), "not YAML"},
		"MIME, broken base64":     {config("base64", "***"+secret), "base64 is broken"},
		"MIME, not YAML, printed": {config("quoted-printable", "a: =5Bx"), "not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckUserData([]byte(c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q quotes the document or is no single line", err)
			}
			seed := plainSeed()
			seed.UserData = []byte(c.data)
			if _, err := Documents(seed); err == nil {
				t.Error("Documents takes it")
			}
		})
	}
}

func TestMIMEMayBeNested(t *testing.T) {
	if err := CheckUserData([]byte(wrapped(maxNesting))); err != nil {
		t.Errorf("%d levels: %v", maxNesting, err)
	}
}

func FuzzCheckUserData(f *testing.F) {
	for _, seed := range []string{"", "#cloud-config\na: [1, {b: &x c}, *x]\n", "#!/bin/sh", "#cloud-config-archive\n- a\n",
		mimeDocument, wrapped(3), gzipped("#cloud-config\na: b"), "\ufeff## template: jinja\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if CheckUserData(data) != nil {
			return
		}
		seed := plainSeed()
		seed.UserData = data
		files, err := Documents(seed)
		if err != nil {
			t.Fatalf("CheckUserData takes it, Documents does not: %v", err)
		}
		if _, params, err := mime.ParseMediaType("multipart/mixed; boundary=" + boundaryOf(files.UserData)); err != nil {
			t.Fatalf("boundary %q: %v", params, err)
		}
	})
}

func boundaryOf(userData []byte) string {
	_, rest, _ := strings.Cut(string(userData), `boundary="`)
	boundary, _, _ := strings.Cut(rest, `"`)
	return boundary
}
