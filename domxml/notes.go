package domxml

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Notes are written into the metadata of a domain that runs, each under a name space
// of its own, for the plugin that comes after this one.

// StopURI is the name space of a note in the metadata of a domain that is being
// stopped.
const StopURI = "urn:nomad-driver-virt:stop:1"

type stop struct {
	XMLName   xml.Name `xml:"stop"`
	NameSpace string   `xml:"xmlns,attr"`
	By        string   `xml:"by,attr"` // as time.RFC3339Nano writes it
}

// StopNote says until when a VM has to have shut down.
func StopNote(by time.Time) (string, error) {
	out, err := xml.Marshal(stop{NameSpace: StopURI, By: by.UTC().Format(time.RFC3339Nano)})
	return string(out), err
}

// ParseStopNote reads what StopNote has written, as libvirt returns it.
func ParseStopNote(document string) (time.Time, error) {
	var s stop
	if err := xml.Unmarshal([]byte(document), &s); err != nil {
		return time.Time{}, fmt.Errorf("the domain's note of its stop is not what this driver writes: %w", err)
	}
	return time.Parse(time.RFC3339Nano, s.By)
}

// PauseURI is the name space of a note in the metadata of a domain whose guest a
// signal of Nomad's has paused.
const PauseURI = "urn:nomad-driver-virt:pause:1"

// PauseNote says nothing but that it is there.
const PauseNote = `<pause xmlns="` + PauseURI + `"/>`

// AddressURI is the name space of a note of the addresses that a guest was found to
// have.
const AddressURI = "urn:nomad-driver-virt:address:1"

type addresses struct {
	XMLName   xml.Name         `xml:"addresses"`
	NameSpace string           `xml:"xmlns,attr"`
	Each      []addressOfGuest `xml:"address"`
}

type addressOfGuest struct {
	MAC  string     `xml:"mac,attr"`
	Addr netip.Addr `xml:"ip,attr"`
}

// AddressNote says which address a guest has, by the hardware address of the
// interface.
func AddressNote(found map[string]netip.Addr) (string, error) {
	note := addresses{NameSpace: AddressURI}
	for _, mac := range slices.Sorted(maps.Keys(found)) {
		note.Each = append(note.Each, addressOfGuest{mac, found[mac]})
	}
	out, err := xml.Marshal(note)
	return string(out), err
}

// ParseAddressNote reads what AddressNote has written, as libvirt returns it.
func ParseAddressNote(document string) (map[string]netip.Addr, error) {
	var note addresses
	if err := xml.Unmarshal([]byte(document), &note); err != nil {
		return nil, fmt.Errorf("the domain's note of its addresses is not what this driver writes: %w", err)
	}
	found := make(map[string]netip.Addr)
	for _, a := range note.Each {
		found[a.MAC] = a.Addr
	}
	return found, nil
}
