package vm

import (
	"encoding/base64"
	"testing"
)

func TestCephKeyIsWhatCephPrints(t *testing.T) {
	const key = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg==" // of the form of ceph's, and of no cluster
	for secret, want := range map[string]bool{
		key:        true,
		key + "\n": true,
		base64.StdEncoding.EncodeToString(make([]byte, 44)): true, // AES with 256 bits
		"":                             false,
		"=":                            false,
		"hush":                         false,
		"c2VjcmV0":                     false, // a word
		key[:36]:                       false, // cut off
		key[:38] + "!=":                false,
		key + " #":                     false,
		"AQDN key":                     false,
		"[client.nomad]\nkey = " + key: false,
	} {
		if got, is := CephKey(secret); is != want || is && len(got) < 28 {
			t.Errorf("CephKey(%q) = %d bytes, %t, want %t", secret, len(got), is, want)
		}
	}
}
