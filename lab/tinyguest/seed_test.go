package main

import "testing"

func TestSeedIsToldByItsLabel(t *testing.T) {
	tests := []struct {
		label string
		want  bool
	}{
		{"cidata                          ", true},
		{"CIDATA\x00\x00", true},
		{"cidata2                         ", false},
		{"", false},
	}
	for _, tt := range tests {
		if got := isSeedLabel([]byte(tt.label)); got != tt.want {
			t.Errorf("label %q: want %t, got %t", tt.label, tt.want, got)
		}
	}
}
