package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"nomad-driver-virt/vm"
)

// maxUnpacked bounds what compressed user data may grow to.
const maxUnpacked = 16 * vm.MiB

// maxNesting bounds how deep a MIME document may hold others.
const maxNesting = 8

// mimeWithin is how far into user data cloud-init looks for the header that
// makes it a MIME document.
const mimeWithin = 4096

// forms are the beginnings by which cloud-init knows what a text is. It ignores
// their case and the white space before them. A longer one comes before its
// own beginning.
var forms = []string{
	"#!",
	"#cloud-boothook",
	"#cloud-config-archive",
	"#cloud-config-jsonp",
	"#cloud-config",
	"#include",
	"#part-handler",
	"## template: jinja",
}

// CheckUserData tells whether cloud-init would take data, the user data of a
// job, for what it is meant to be. No user data at all is fine. The error never
// quotes data, which may hold secrets.
func CheckUserData(data []byte) error {
	_, err := parseUserData(data)
	return err
}

// parseUserData returns the user data of a job as a part of ours, nil if there
// is none. A text goes in as text/plain: cloud-init then looks at how it
// begins, as it does for user data that stands alone.
func parseUserData(data []byte) (*part, error) {
	data, err := unpack(data)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(data) {
		return nil, errors.New("the user data is not UTF-8, and cloud-init reads nothing else: save it as UTF-8")
	}
	text := trim(data)
	if len(text) == 0 {
		return nil, nil
	}
	form := formOf(text)
	if form == "" && isMIME(text) {
		return parseMIME(text)
	}
	if err := checkText(form, data); err != nil {
		return nil, err
	}
	p := textPart("text/plain", text)
	return &p, nil
}

// unpack decompresses what is compressed by gzip, as cloud-init does first.
func unpack(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(r, int64(maxUnpacked)+1))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the user data begins like a gzip file and does not decompress (%w): compress it again", err)
	case len(data) > int(maxUnpacked):
		return nil, fmt.Errorf("the user data decompresses to more than %s: make it smaller", maxUnpacked)
	}
	return data, nil
}

// trim removes what may stand before a form, and a byte order mark, behind
// which cloud-init would not see one.
func trim(data []byte) []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n\v\f")
}

func formOf(text []byte) string {
	i := slices.IndexFunc(forms, func(form string) bool {
		return len(text) >= len(form) && strings.EqualFold(string(text[:len(form)]), form)
	})
	if i < 0 {
		return ""
	}
	return forms[i]
}

// checkText checks a text of a known form as far as that can be done without
// running it.
func checkText(form string, text []byte) error {
	switch form {
	case "":
		return fmt.Errorf("the user data has no form that cloud-init knows, so it would be ignored: "+
			"let it begin with one of %s, or make it a MIME document", strings.Join(forms, ", "))
	case "#cloud-config":
		return checkCloudConfig(text)
	case "#cloud-config-archive":
		_, err := parseYAML(text, yaml.SequenceNode)
		return err
	}
	return nil
}

// checkCloudConfig refuses what cloud-init cannot read, and what would keep our
// own cloud-config from being merged.
func checkCloudConfig(text []byte) error {
	root, err := parseYAML(text, yaml.MappingNode)
	if err != nil || root == nil {
		return err
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], resolve(root.Content[i+1])
		if slices.Contains(appended, key.Value) && value.Kind != yaml.SequenceNode {
			return fmt.Errorf("%s in the cloud-config is not a list (line %d): make it one, or leave it out",
				key.Value, key.Line)
		}
	}
	return nil
}

// parseYAML returns the top level of a YAML document, which must be of the
// given kind; nil for a document that holds nothing.
func parseYAML(text []byte, kind yaml.Kind) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("the cloud-config is not YAML (%s): correct it", withoutContent(err))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("the cloud-config goes on after the end of its YAML document: make it one document")
	}
	root := document.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil, nil
	case root.Kind != kind:
		return nil, fmt.Errorf("the top level of the cloud-config is %s (line %d): make it %s",
			kindName(root.Kind), root.Line, kindName(kind))
	}
	return root, nil
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func kindName(kind yaml.Kind) string {
	switch kind {
	case yaml.MappingNode:
		return "a mapping (key: value)"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a plain value"
	}
}

var anchorName = regexp.MustCompile(`anchor '[^']*'`)

// withoutContent returns the message of a YAML error without the one thing that
// it quotes. Its line is that of the mistake or the one before.
func withoutContent(err error) string {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(message, "line ") {
		message = "near " + message
	}
	return anchorName.ReplaceAllString(message, "anchor")
}

func isMIME(text []byte) bool {
	return bytes.Contains(bytes.ToLower(text[:min(len(text), mimeWithin)]), []byte("mime-version:"))
}

// parseMIME returns a MIME document as a part of ours. Its parts stay as they
// are, with the headers that cloud-init reads from them: cloud-init walks
// through documents within documents.
func parseMIME(text []byte) (*part, error) {
	message, err := mail.ReadMessage(bytes.NewReader(afterEnvelope(text)))
	if err != nil {
		return nil, errMIME("its header cannot be read")
	}
	body, err := io.ReadAll(message.Body)
	if err != nil {
		return nil, errMIME("its body cannot be read")
	}
	p := part{textproto.MIMEHeader(message.Header), body}
	return &p, checkPart(p, 0)
}

// afterEnvelope skips the line "From …" that some mail programs begin with.
func afterEnvelope(text []byte) []byte {
	if _, rest, found := bytes.Cut(text, []byte("\n")); found && bytes.HasPrefix(text, []byte("From ")) {
		return rest
	}
	return text
}

func errMIME(problem string) error {
	return fmt.Errorf("the user data is a MIME document that cannot be read (%s): make it anew, for instance with "+
		"cloud-init devel make-mime", problem)
}

// checkPart checks a part of a user's MIME document and the parts within it.
func checkPart(p part, depth int) error {
	contentType, params, err := mime.ParseMediaType(p.header.Get("Content-Type"))
	switch {
	case contentType == "text/cloud-config":
		return checkConfigPart(p)
	case !strings.HasPrefix(contentType, "multipart/"):
		return nil
	case err != nil || params["boundary"] == "":
		return errMIME("a multipart without a boundary")
	case depth == maxNesting:
		return errMIME(fmt.Sprintf("more than %d levels", maxNesting))
	}
	reader := multipart.NewReader(bytes.NewReader(p.body), params["boundary"])
	for i := 0; ; i++ {
		next, err := reader.NextPart()
		switch {
		case errors.Is(err, io.EOF) && i > 0:
			return nil
		case err != nil:
			return errMIME("a part that does not begin or end")
		}
		body, err := io.ReadAll(next)
		if err != nil {
			return errMIME("a part that does not end")
		}
		if err := checkPart(part{next.Header, body}, depth+1); err != nil {
			return err
		}
	}
}

func checkConfigPart(p part) error {
	text := p.body
	if strings.EqualFold(p.header.Get("Content-Transfer-Encoding"), "base64") {
		decoded, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text)))
		if err != nil {
			return errMIME("a part whose base64 is broken")
		}
		text = decoded
	}
	return checkCloudConfig(text)
}
