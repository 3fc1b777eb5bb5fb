package vm

import "encoding/base64"

// shortestCephKey is the type, the time and the length of a key, and the 16 bytes of
// an AES key, the shortest that there are.
const shortestCephKey = 2 + 8 + 2 + 16

// CephKey decodes the key of a Ceph client, as `ceph auth get-key` prints it. What is
// none is to be kept from Ceph's programs and libraries: they print what they cannot
// read.
func CephKey(secret string) (key []byte, is bool) {
	key, err := base64.StdEncoding.DecodeString(secret)
	return key, err == nil && len(key) >= shortestCephKey
}
