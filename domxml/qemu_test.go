package domxml

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseQEMU(t *testing.T) {
	const guests = `<guest><os_type>hvm</os_type><arch name='armv7l'><emulator>/usr/bin/qemu-system-arm</emulator></arch></guest>
		<guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/usr/bin/qemu-system-x86_64</emulator></arch></guest>`
	for _, test := range []struct {
		name, secmodels, guests string
		want                    QEMU
	}{
		{
			"Debian",
			`<secmodel><model>apparmor</model><doi>0</doi></secmodel>
			<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+64055</baselabel></secmodel>`,
			guests,
			QEMU{Emulator: "/usr/bin/qemu-system-x86_64", User: 64055, Group: 64055, Confined: []string{"apparmor"}},
		},
		{
			"root, unconfined",
			`<secmodel><model>none</model></secmodel><secmodel><model>dac</model><baselabel type='kvm'>+0:+0</baselabel></secmodel>`,
			guests,
			QEMU{Emulator: "/usr/bin/qemu-system-x86_64"},
		},
		{"nothing is said", "", "", QEMU{User: -1, Group: -1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseQEMU("<capabilities><host><cpu><arch>x86_64</arch></cpu>" + test.secmodels + "</host>" + test.guests + "</capabilities>")
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("error %v, and QEMU (-want +got):\n%s", err, diff)
			}
		})
	}
	if got, err := ParseQEMU("capabilities"); err == nil {
		t.Errorf("what is no XML was read as %+v", got)
	}
}
