package main

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestPowerButtonIsToldFromOtherEvents(t *testing.T) {
	press := inputEvent{Type: evKey, Code: keyPower, Value: pressed}
	release := inputEvent{Type: evKey, Code: keyPower, Value: 0}
	key := inputEvent{Type: evKey, Code: 30, Value: pressed}
	sync := inputEvent{}

	tests := []struct {
		name   string
		events []inputEvent
		want   bool
	}{
		{"no event", nil, false},
		{"other events", []inputEvent{key, sync, release}, false},
		{"a press after others", []inputEvent{key, sync, press}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stream bytes.Buffer
			for _, e := range tt.events {
				if err := binary.Write(&stream, binary.LittleEndian, e); err != nil {
					t.Fatal(err)
				}
			}
			if got := pressedIn(&stream); got != tt.want {
				t.Errorf("pressed: want %t, got %t", tt.want, got)
			}
		})
	}
}
