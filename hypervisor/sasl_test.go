package hypervisor

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket"
	"github.com/google/go-cmp/cmp"
	"github.com/xdg-go/scram"
)

// asking is a libvirt that wants to know who connects.
type asking struct {
	types      []uint32 // of authentication
	mechanisms string
	step       step

	asked []uint32 // the procedures that were called
}

// step answers a SASL message; an error is a refusal.
type step func(mechanism, response string) (complete bool, challenge string, err error)

// serve answers calls until the connection is closed.
func (a *asking) serve(conn net.Conn) {
	var mechanism string
	for {
		var size uint32
		var header socket.Header
		if binary.Read(conn, binary.BigEndian, &size) != nil || binary.Read(conn, binary.BigEndian, &header) != nil {
			return
		}
		args := &xdrReader{rest: make([]byte, int(size)-4-binary.Size(header))}
		if _, err := io.ReadFull(conn, args.rest); err != nil {
			return
		}
		a.asked = append(a.asked, header.Procedure)
		header.Type = socket.Reply

		var reply []byte
		switch header.Procedure {
		case procAuthList:
			reply = appendUint32s(nil, uint32(len(a.types)))
			reply = appendUint32s(reply, a.types...)
		case procSASLInit:
			reply = appendString(nil, a.mechanisms)
		case procSASLStart:
			mechanism = args.string()
			fallthrough
		case procSASLStep:
			complete, challenge, err := a.step(mechanism, args.data())
			switch {
			case err != nil:
				header.Status = socket.StatusError
				reply = appendUint32s(nil, uint32(libvirt.ErrAuthFailed), 7, 1)
				reply = appendUint32s(appendString(reply, err.Error()), 2)
			case complete:
				reply = appendData(appendUint32s(nil, 1), challenge)
			default:
				reply = appendData(appendUint32s(nil, 0), challenge)
			}
		}
		_, _ = conn.Write(packet(header, reply))
	}
}

func packet(header socket.Header, body []byte) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, uint32(4+binary.Size(header)+len(body)))
	_ = binary.Write(&b, binary.BigEndian, header)
	b.Write(body)
	return b.Bytes()
}

func appendUint32s(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

var errRefused = errors.New("authentication failed")

// scramUser checks that the user is nomad, password hush, by SCRAM. What proves
// libvirt to the user comes with the last reply, or before it.
func scramUser(t *testing.T, hash scram.HashGeneratorFcn, early bool) step {
	t.Helper()
	client, err := hash.NewClientUnprepped("nomad", "hush", "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	server, err := hash.NewServer(func(user string) (scram.StoredCredentials, error) {
		if user != "nomad" {
			return scram.StoredCredentials{}, errRefused
		}
		return stored, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	talk := server.NewConversation()
	return func(_, response string) (bool, string, error) {
		if talk.Done() {
			return response == "", "", nil
		}
		challenge, err := talk.Step(response)
		return talk.Done() && !early, challenge, err
	}
}

func plainUser(mechanism, response string) (bool, string, error) {
	if mechanism != "PLAIN" || response != "\x00nomad\x00hush" {
		return false, "", errRefused
	}
	return true, "", nil
}

// impostor lets everybody in, and knows no password.
func impostor(challenges ...string) step {
	return func(_, response string) (bool, string, error) {
		challenge := challenges[0]
		challenges = challenges[1:]
		if _, nonce, found := strings.Cut(response, "r="); found {
			challenge = strings.ReplaceAll(challenge, "NONCE", nonce)
		}
		return len(challenges) == 0, challenge, nil
	}
}

func TestLogin(t *testing.T) {
	var (
		none   = login{}
		nomad  = login{"nomad", "hush"}
		wrong  = login{"nomad", "hush-hush"}
		nobody = login{"nobody", "hush"}

		notAsked, unanswered = []uint32{66}, []uint32{66, 67}
		started, stepped     = []uint32{66, 67, 68}, []uint32{66, 67, 68, 69}
	)
	const refused = `it refused the name or the password of user "`
	offers := func(mechanisms string, step step) asking {
		return asking{types: []uint32{authSASL}, mechanisms: mechanisms, step: step}
	}
	sha256 := func() asking { return offers("SCRAM-SHA-256", scramUser(t, scram.SHA256, false)) }
	// What an impostor sends first is well formed.
	const salt = "r=NONCEx,s=c2FsdA==,i="
	for _, test := range []struct {
		name    string
		login   login
		libvirt asking
		asked   []uint32
		err     string // contained; "" for none
	}{
		{"nothing is asked for", none, asking{types: []uint32{0}}, notAsked, ""},
		{"nothing is asked for, and a name is known", nomad, asking{types: []uint32{0}}, notAsked, ""},
		{"polkit is the library's", nomad, asking{types: []uint32{2}}, notAsked, ""},
		{"no name is known", none, offers("", nil), notAsked,
			"it asks for a name and a password (SASL): set provider.libvirt.user and provider.libvirt.password"},

		{"the best of the mechanisms", nomad,
			offers("PLAIN,SCRAM-SHA-1,SCRAM-SHA-256", scramUser(t, scram.SHA256, false)), stepped, ""},
		{"SCRAM-SHA-1", nomad, offers("PLAIN,SCRAM-SHA-1", scramUser(t, scram.SHA1, false)), stepped, ""},
		{"libvirt's proof is not its last word", nomad,
			offers("SCRAM-SHA-256", scramUser(t, scram.SHA256, true)), []uint32{66, 67, 68, 69, 69}, ""},
		{"PLAIN", nomad, offers("GSSAPI,PLAIN", plainUser), started, ""},
		{"none of the mechanisms", nomad, offers("GSSAPI,SCRAM-SHA-512", nil), unanswered,
			"it offers the SASL mechanisms GSSAPI, SCRAM-SHA-512, and the driver knows SCRAM-SHA-256, SCRAM-SHA-1 and PLAIN"},

		{"a wrong password", wrong, sha256(), stepped, refused + `nomad"`},
		{"a wrong name", nobody, sha256(), started, refused + `nobody"`},
		{"a wrong password by PLAIN", wrong, offers("PLAIN", plainUser), started, refused + `nomad"`},

		{"a libvirt that proves nothing", nomad, offers("SCRAM-SHA-256", impostor(salt+"4096", "")), stepped,
			"logging in by SCRAM-SHA-256: it did not prove that it knows the password"},
		{"a libvirt with a false proof", nomad, offers("SCRAM-SHA-256", impostor(salt+"4096", "v=AAAA")), stepped,
			"logging in by SCRAM-SHA-256: "},
		{"a libvirt that is content at once", nomad, offers("SCRAM-SHA-256", impostor("")), started,
			"logging in by SCRAM-SHA-256: it did not prove"},
		{"a libvirt that wants a cheap proof", nomad, offers("SCRAM-SHA-256", impostor(salt+"1", "")), started,
			"logging in by SCRAM-SHA-256: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			here, there := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				test.libvirt.serve(there)
			}()
			err := test.login.to(here)
			here.Close()
			<-served

			if test.err == "" && err != nil {
				t.Errorf("the error is %v, want none", err)
			}
			if test.err != "" {
				mustSay(t, err, test.err)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the error tells the password: %v", err)
			}
			if diff := cmp.Diff(test.asked, test.libvirt.asked); diff != "" {
				t.Errorf("the procedures called (-want +got):\n%s", diff)
			}
		})
	}
}

// answered is a connection whose other side has said all it has to say.
type answered struct {
	replies io.Reader
	calls   bytes.Buffer
}

func (a *answered) Read(b []byte) (int, error)  { return a.replies.Read(b) }
func (a *answered) Write(b []byte) (int, error) { return a.calls.Write(b) }

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// These bytes were put together by hand, of remote_protocol.x.
func TestLoginOnTheWire(t *testing.T) {
	conn := &answered{replies: bytes.NewReader(fromHex(t, `
		00000028 20008086 00000001 00000042 00000001 00000000 00000000
		         00000002 00000002 00000001
		00000028 20008086 00000001 00000043 00000001 00000000 00000000
		         00000005 504c4149 4e000000
		0000003c 20008086 00000001 00000044 00000001 00000000 00000001
		         0000002d 00000007 00000001 00000002 6e6f0000 00000002 00000000 00000000`))}
	mustSay(t, login{"u", "é"}.to(conn), `it refused the name or the password of user "u"`)
	want := fromHex(t, `
		0000001c 20008086 00000001 00000042 00000000 00000000 00000000
		0000001c 20008086 00000001 00000043 00000000 00000000 00000000
		00000044 20008086 00000001 00000044 00000000 00000000 00000000
		         00000005 504c4149 4e000000
		         00000000 00000005 00000000 00000075 00000000 000000c3 000000a9`)
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(conn.calls.Bytes())); diff != "" {
		t.Errorf("the calls (-want +got):\n%s", diff)
	}
}

func TestLoginToWhatIsNotLibvirt(t *testing.T) {
	const reply = "20008086 00000001 00000042 00000001 00000000 00000000"
	for _, test := range []struct{ name, replies, err string }{
		{"it hangs up", "", "EOF"},
		{"it hangs up in a reply", "00000028" + reply, "EOF"},
		{"its reply is too small", "0000001b" + reply, "a reply of 27 bytes"},
		{"its reply is too large", "00100000" + reply, "a reply of 1048576 bytes"},
		{"it replies to something else", "0000001c 20008086 00000001 00000043 00000001 00000000 00000000",
			"type 1 for procedure 67 is no reply to procedure 66"},
		{"it calls", "0000001c 20008086 00000001 00000042 00000000 00000000 00000000", "type 0 for procedure 66 is no reply"},
		{"its reply is empty", "0000001c" + reply, "cut short"},
		{"its list is longer than the reply", "00000024" + reply + "ffffffff 00000001", "cut short"},
		{"its error is empty", "0000001c 20008086 00000001 00000042 00000001 00000000 00000001", "cut short"},
		{"its error has no message", "0000002c 20008086 00000001 00000042 00000001 00000000 00000001" +
			"00000026 00000007 00000000 00000002", "no reason given"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mustSay(t, login{}.to(&answered{replies: bytes.NewReader(fromHex(t, test.replies))}), test.err)
		})
	}
}
