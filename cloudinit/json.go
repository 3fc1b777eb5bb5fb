package cloudinit

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// asciiJSON encodes v as JSON that every YAML parser takes for the same value.
// PyYAML refuses some characters that JSON leaves as they are, such as U+007F,
// so all beyond printable ASCII is escaped. Those beyond U+FFFF are written in
// YAML's way: PyYAML takes JSON's pair of surrogates for two characters.
func asciiJSON(v any) ([]byte, error) {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, r := range encoded.String() {
		switch {
		case r < 0x7f:
			out.WriteByte(byte(r))
		case r <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
	}
	return out.Bytes(), nil
}
