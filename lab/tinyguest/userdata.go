package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// cloudConfig is what this guest understands of a cloud-config document.
type cloudConfig struct {
	BootCmd    []any  `yaml:"bootcmd"`
	RunCmd     []any  `yaml:"runcmd"`
	WriteFiles []file `yaml:"write_files"`
}

// file is an entry of write_files.
type file struct {
	Path        string `yaml:"path"`
	Content     string `yaml:"content"`
	Encoding    string `yaml:"encoding"`
	Permissions string `yaml:"permissions"`
}

func (f file) bytes() ([]byte, error) {
	switch f.Encoding {
	case "", "text/plain":
		return []byte(f.Content), nil
	case "b64", "base64":
		return decodeBase64(strings.NewReader(f.Content))
	}
	return nil, fmt.Errorf("encoding %q is none of b64, base64, text/plain", f.Encoding)
}

func (f file) mode() (os.FileMode, error) {
	if f.Permissions == "" {
		return 0o644, nil
	}
	mode, err := strconv.ParseUint(strings.TrimPrefix(f.Permissions, "0o"), 8, 12)
	return os.FileMode(mode), err
}

// metaData is the NoCloud document of that name.
type metaData struct {
	InstanceID string `yaml:"instance-id"`
	Hostname   string `yaml:"local-hostname"`
}

// userData is the sum of all parts of a user-data document: lists are appended in
// the order of the parts.
type userData struct {
	config  cloudConfig
	scripts []string
}

// parseUserData reads a cloud-config, a script, or a MIME multi-part of those.
// What cannot be used is told in problems and left out.
func parseUserData(doc []byte) (u userData, problems []error) {
	header, body := splitMIME(doc)
	u.add(header, body, &problems)
	return u, problems
}

// splitMIME separates the header of a MIME document from its body. A document of
// another form has no header.
func splitMIME(doc []byte) (textproto.MIMEHeader, io.Reader) {
	msg, err := mail.ReadMessage(bytes.NewReader(doc))
	if err != nil || msg.Header.Get("Content-Type") == "" {
		return nil, bytes.NewReader(doc)
	}
	return textproto.MIMEHeader(msg.Header), msg.Body
}

func (u *userData) add(header textproto.MIMEHeader, body io.Reader, problems *[]error) {
	mediaType, params, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if strings.HasPrefix(mediaType, "multipart/") {
		u.addMultipart(multipart.NewReader(body, params["boundary"]), problems)
		return
	}
	content, err := decodeBody(header, body)
	if err == nil {
		err = u.addPart(mediaType, content)
	}
	if err != nil {
		*problems = append(*problems, err)
	}
}

func (u *userData) addMultipart(parts *multipart.Reader, problems *[]error) {
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return
		}
		if err != nil {
			*problems = append(*problems, err)
			return
		}
		u.add(part.Header, part, problems)
	}
}

// decodeBody undoes a part's transfer encoding, quoted-printable excepted, which
// the multipart reader has undone already.
func decodeBody(header textproto.MIMEHeader, body io.Reader) ([]byte, error) {
	if strings.EqualFold(header.Get("Content-Transfer-Encoding"), "base64") {
		return decodeBase64(body)
	}
	return io.ReadAll(body)
}

func decodeBase64(r io.Reader) ([]byte, error) {
	return io.ReadAll(base64.NewDecoder(base64.StdEncoding, r))
}

// addPart adds one document. Its first line tells its kind where the media type
// does not.
func (u *userData) addPart(mediaType string, content []byte) error {
	switch {
	case len(bytes.TrimSpace(content)) == 0:
		return nil
	case mediaType == "text/cloud-config" || bytes.HasPrefix(content, []byte("#cloud-config")):
		return u.addConfig(content)
	case mediaType == "text/x-shellscript" || bytes.HasPrefix(content, []byte("#!")):
		u.scripts = append(u.scripts, string(content))
		return nil
	}
	first, _, _ := bytes.Cut(content, []byte("\n"))
	return fmt.Errorf("a part of type %q that begins with %q is not understood here", mediaType, first)
}

func (u *userData) addConfig(doc []byte) error {
	var c cloudConfig
	if err := yaml.Unmarshal(doc, &c); err != nil {
		return fmt.Errorf("cloud-config: %w", err)
	}
	u.config.BootCmd = append(u.config.BootCmd, c.BootCmd...)
	u.config.RunCmd = append(u.config.RunCmd, c.RunCmd...)
	u.config.WriteFiles = append(u.config.WriteFiles, c.WriteFiles...)
	return nil
}

// shellScript turns a list of commands into a script, as cloud-init does: one
// script for all, so that what a command exports reaches the next. A command is a
// line of shell, or a list of arguments.
func shellScript(commands []any) string {
	if len(commands) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, command := range commands {
		args, isList := command.([]any)
		if !isList {
			fmt.Fprintln(&b, command)
			continue
		}
		for i, arg := range args {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(shellQuote(fmt.Sprint(arg)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
