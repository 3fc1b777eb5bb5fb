package cloudinit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"slices"
)

// part is one part of a MIME document, its body encoded as the header says.
type part struct {
	header textproto.MIMEHeader
	body   []byte
}

// textPart wraps any bytes: base64 brings them to the guest as they are.
func textPart(contentType string, text []byte) part {
	return part{
		header: textproto.MIMEHeader{
			"Content-Type":              {contentType + `; charset="utf-8"`},
			"Content-Transfer-Encoding": {"base64"},
		},
		body: base64Lines(text),
	}
}

// base64Lines encodes text in lines of 76 characters, the most that MIME allows.
func base64Lines(text []byte) []byte {
	var b bytes.Buffer
	for chunk := range slices.Chunk(text, 57) {
		b.WriteString(base64.StdEncoding.EncodeToString(chunk))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// multipartMixed joins parts into one MIME document. The boundary is a hash of
// what it separates: the same parts give the same document, and no part can
// hold it.
func multipartMixed(parts []part) []byte {
	hash := sha256.New()
	for _, p := range parts {
		hash.Write(p.body)
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary(hex.EncodeToString(hash.Sum(nil)[:16])); err != nil {
		panic(err) // hexadecimal digits are a boundary
	}
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=%q\r\n\r\n", w.Boundary())
	for _, p := range parts {
		pw, _ := w.CreatePart(p.header) // a buffer takes every write
		_, _ = pw.Write(p.body)
	}
	_ = w.Close()
	return b.Bytes()
}
