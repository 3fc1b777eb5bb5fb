package hypervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket"
	"github.com/xdg-go/scram"
)

// The numbers of libvirt's protocol that the library keeps to itself.
//
// See https://gitlab.com/libvirt/libvirt/-/blob/master/src/remote/remote_protocol.x
const (
	remoteProgram = 0x20008086
	remoteVersion = 1

	procAuthList  = 66
	procSASLInit  = 67
	procSASLStart = 68
	procSASLStep  = 69

	authSASL = 1

	// A SASL message has 64 KiB at most, in four bytes each; an error is smaller.
	maxReply = 1 << 19
)

// login is the name and password for a libvirt that asks for them.
type login struct{ user, password string }

// to tells libvirt who connects, where it asks for that (auth_unix_rw = "sasl"
// in libvirtd.conf). The library knows nothing of SASL, so this comes before it
// on the connection; when the library asks in its turn, libvirt is content.
func (l login) to(conn io.ReadWriter) error {
	reply, err := ask(conn, procAuthList, nil)
	if err != nil {
		return err
	}
	types := reply.uint32s()
	if reply.err != nil || !slices.Contains(types, authSASL) {
		return reply.err
	}
	if l.user == "" {
		return errors.New("it asks for a name and a password (SASL): " +
			"set provider.libvirt.user and provider.libvirt.password in the plugin's configuration")
	}
	if reply, err = ask(conn, procSASLInit, nil); err != nil {
		return err
	}
	offered := reply.string()
	if reply.err != nil {
		return reply.err
	}
	mechanism, p, err := l.choose(strings.Split(offered, ","))
	if err != nil {
		return err
	}
	err = converse(conn, mechanism, p)
	if isCode(err, libvirt.ErrAuthFailed) {
		return fmt.Errorf("it refused the name or the password of user %q, "+
			"check provider.libvirt.user and provider.libvirt.password", l.user)
	}
	return err
}

// proof is one side of a SASL exchange: Step answers a challenge, the first of
// which is empty, and Valid tells whether the other side did its part.
type proof interface {
	Step(challenge string) (response string, err error)
	Valid() bool
}

// scramByStrength are the mechanisms of SCRAM, best first.
var scramByStrength = []struct {
	mechanism string
	hash      scram.HashGeneratorFcn
}{
	{"SCRAM-SHA-256", scram.SHA256},
	{"SCRAM-SHA-1", scram.SHA1},
}

// choose takes the best of the mechanisms that libvirt offers. With SCRAM the
// password stays here, and libvirt proves that it knows it. PLAIN hands it over,
// and is the only one for a libvirt that asks PAM or LDAP; nobody can listen, as
// socketsOf allows sockets of this host alone.
func (l login) choose(offered []string) (mechanism string, p proof, err error) {
	for _, s := range scramByStrength {
		if slices.Contains(offered, s.mechanism) {
			// Prepared by the rules of SASL a password might differ from what
			// libvirt's library compares it with, which goes by its bytes.
			client, err := s.hash.NewClientUnprepped(l.user, l.password, "")
			if err != nil {
				return "", nil, err
			}
			return s.mechanism, client.NewConversation(), nil
		}
	}
	if slices.Contains(offered, "PLAIN") {
		return "PLAIN", plain(l), nil
	}
	return "", nil, fmt.Errorf("it offers the SASL mechanisms %s, and the driver knows SCRAM-SHA-256, SCRAM-SHA-1 and PLAIN: "+
		"set mech_list in /etc/sasl2/libvirt.conf", strings.Join(offered, ", "))
}

// plain is the mechanism PLAIN, which has no challenges.
type plain login

func (p plain) Step(string) (string, error) { return "\x00" + p.user + "\x00" + p.password, nil }
func (p plain) Valid() bool                 { return true }

// converse carries a proof's messages to libvirt and back.
func converse(conn io.ReadWriter, mechanism string, p proof) error {
	procedure, args := uint32(procSASLStart), appendString(nil, mechanism)
	challenge := ""
	for complete := false; !complete; {
		response, err := p.Step(challenge)
		if err != nil {
			return fmt.Errorf("logging in by %s: %w", mechanism, err)
		}
		reply, err := ask(conn, procedure, appendData(args, response))
		if err != nil {
			return err
		}
		complete, challenge = reply.uint32() != 0, reply.data()
		if reply.err != nil {
			return reply.err
		}
		procedure, args = procSASLStep, nil
	}
	if challenge != "" {
		if _, err := p.Step(challenge); err != nil {
			return fmt.Errorf("logging in by %s: %w", mechanism, err)
		}
	}
	if !p.Valid() {
		return fmt.Errorf("logging in by %s: it did not prove that it knows the password", mechanism)
	}
	return nil
}

// ask calls a procedure, and returns what it replies. No other call may be
// under way on the connection.
func ask(conn io.ReadWriter, procedure uint32, args []byte) (*xdrReader, error) {
	header := socket.Header{
		Program: remoteProgram, Version: remoteVersion, Procedure: procedure, Type: socket.Call, Status: socket.StatusOK,
	}
	overhead := uint32(4 + binary.Size(header))
	var message bytes.Buffer
	_ = binary.Write(&message, binary.BigEndian, overhead+uint32(len(args))) // a Buffer takes everything
	_ = binary.Write(&message, binary.BigEndian, header)
	message.Write(args)
	if _, err := conn.Write(message.Bytes()); err != nil {
		return nil, err
	}

	var size uint32
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	if size < overhead || size > maxReply {
		return nil, fmt.Errorf("a reply of %d bytes is none of libvirt's", size)
	}
	if err := binary.Read(conn, binary.BigEndian, &header); err != nil {
		return nil, err
	}
	reply := &xdrReader{rest: make([]byte, size-overhead)}
	if _, err := io.ReadFull(conn, reply.rest); err != nil {
		return nil, err
	}
	switch {
	case header.Type != socket.Reply || header.Procedure != procedure:
		return nil, fmt.Errorf("a message of type %d for procedure %d is no reply to procedure %d",
			header.Type, header.Procedure, procedure)
	case header.Status != socket.StatusOK:
		return nil, reply.libvirtError()
	}
	return reply, nil
}

// xdrReader takes a message apart. Once it is found too short all that follows
// is empty, and err tells of it.
//
// See https://www.rfc-editor.org/rfc/rfc4506
type xdrReader struct {
	rest []byte
	err  error
}

func (r *xdrReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.rest, r.err = nil, errors.New("libvirt's reply is cut short")
		return nil
	}
	var taken []byte
	taken, r.rest = r.rest[:n], r.rest[n:]
	return taken
}

func (r *xdrReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *xdrReader) uint32s() []uint32 {
	var list []uint32
	for n := r.uint32(); n > 0 && r.err == nil; n-- {
		list = append(list, r.uint32())
	}
	return list
}

func (r *xdrReader) string() string {
	n := uint64(r.uint32())
	s := r.take(n)
	r.take(padding(n))
	return string(s)
}

// data reads what appendData writes.
func (r *xdrReader) data() string {
	r.uint32() // null or not: no message, and an empty one, end a SASL exchange alike
	var s []byte
	for _, char := range r.uint32s() {
		s = append(s, byte(char))
	}
	return string(s)
}

func (r *xdrReader) libvirtError() error {
	code, _, hasMessage := r.uint32(), r.uint32(), r.uint32() != 0
	e := libvirt.Error{Code: code, Message: "no reason given"}
	if hasMessage {
		e.Message = r.string()
	}
	if r.err != nil {
		return r.err
	}
	return e
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	b = append(b, s...)
	return append(b, make([]byte, padding(uint64(len(s))))...)
}

// appendData appends a SASL message: that it is not null, and its characters,
// which XDR gives four bytes each.
func appendData(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	for _, char := range []byte(s) {
		b = binary.BigEndian.AppendUint32(b, uint32(char))
	}
	return b
}

// padding is what follows n bytes, up to the next multiple of four.
func padding(n uint64) uint64 { return -n % 4 }
