//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// What existing users write, and what ours adds, on the small guest.

func TestOldNamesStillWork(t *testing.T) {
	hcl := guest{Name: "old", Cmds: []string{serveLocal}}.hcl(t)
	begin, end := strings.Index(hcl, "disk {"), strings.Index(hcl, "network_interface {")
	j := submit(t, "old", hcl[:begin]+`
		image             = "tiny.qcow2"
		primary_disk_size = 512
		use_thin_copy     = true
		`+hcl[end:])
	a := j.waitRunning()
	if got := page(t, tinyTimeout, a.url(t, "http", "/")); got != hello {
		t.Errorf("got page %q, want %q", got, hello)
	}
	if !strings.Contains(a.events(), "are old names") {
		t.Errorf("no event tells what to write today:\n%s", a.events())
	}
	if info := virsh(t, "domblkinfo", vmOf(t, "vm-task"), "vda"); !strings.Contains(info, "536870912") {
		t.Errorf("want a disk of 512 MiB, got\n%s", info)
	}
	j.purge()
	nothingLeft(t)
}

func TestDirectoriesAreReadOnlyByTheHostsDoing(t *testing.T) {
	for _, mounts := range []string{"virtiofs", "9p"} {
		t.Run(mounts, func(t *testing.T) {
			j := guest{
				Name:   "mounts-" + mounts,
				Config: `mounts = "` + mounts + `"`,
				Cmds: []string{
					"for d in alloc local secrets; do mount -o remount,rw /$d; touch /$d/written && echo wrote /$d; done > /run/index.html 2>&1",
					"grep -E ' /(alloc|local|secrets) ' /proc/mounts >> /run/index.html",
					"httpd -p 8000 -h /run",
				},
			}.submit(t)
			a := j.waitRunning()
			got := page(t, tinyTimeout, a.url(t, "http", "/"))
			if strings.Contains(got, "wrote") {
				t.Errorf("the guest wrote into the allocation:\n%s", got)
			}
			for _, dir := range []string{"alloc", "local", "secrets"} {
				if !strings.Contains(got, dir+" /"+dir+" "+mounts+" ") {
					t.Errorf("/%s is not mounted by %s:\n%s", dir, mounts, got)
				}
			}
			j.purge()
			nothingLeft(t)
		})
	}
}

func TestTaskOfAnyName(t *testing.T) {
	j := guest{Name: "names", Task: "it's a \"ünusual\" name; $(x)", Cmds: []string{"hostname > /run/index.html; httpd -p 8000 -h /run"}}.submit(t)
	a := j.waitRunning()
	if got := page(t, tinyTimeout, a.url(t, "http", "/")); !strings.HasPrefix(got, "nomad-it-s-a-") {
		t.Errorf("the guest's hostname is %q", got)
	}
	vmOf(t, "it-s-a")
	j.purge()
	nothingLeft(t)
}

func TestDisksBesideThePrimaryOne(t *testing.T) {
	j := guest{
		Name: "disks",
		Config: `
			disk {
				size   = "100MiB"
				format = "raw"
			}
			os {
				machine = "q35"
			}`,
		Cmds: []string{"cat /proc/partitions > /run/index.html; httpd -p 8000 -h /run"},
	}
	// The other disk is the first by name, and the guest boots from this one.
	hcl := strings.Replace(j.hcl(t), "disk {", "disk {\nprimary = true\ndevname = \"vdb\"\nsize = \"200MB\"", 1)
	submitted := submit(t, "disks", hcl)
	a := submitted.waitRunning()
	got := page(t, tinyTimeout, a.url(t, "http", "/"))
	for _, want := range []string{"102400 vda", "195313 vdb"} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), want) {
			t.Errorf("the guest does not see %q:\n%s", want, got)
		}
	}
	if xml := virsh(t, "dumpxml", vmOf(t, "vm-task")); !strings.Contains(xml, "machine='pc-q35-") {
		t.Errorf("the machine is not q35: %s", matching(xml, "machine="))
	}
	submitted.purge()
	nothingLeft(t)
}

func TestTasksThatStartTogetherMakeTheirBaseOnce(t *testing.T) {
	virsh(t, "pool-refresh", "local")
	for line := range strings.Lines(matching(virsh(t, "vol-list", "local"), "base-")) {
		virsh(t, "vol-delete", "--pool", "local", strings.Fields(line)[0])
	}
	one := guest{Name: "one", Cmds: []string{serveLocal}}.submit(t)
	two := guest{Name: "two", Task: "other-task", Cmds: []string{serveLocal}}.submit(t)
	imports := 0
	for _, j := range []*job{one, two} {
		a := j.waitRunning()
		imports += strings.Count(a.events(), "Imported image ")
		if got := page(t, tinyTimeout, a.url(t, "http", "/")); got != hello {
			t.Errorf("%s: got page %q, want %q", j.name, got, hello)
		}
	}
	virsh(t, "pool-refresh", "local") // libvirt is told of a base, but not at once
	if bases := matching(virsh(t, "vol-list", "local")+"\n", "base-"); imports != 1 || strings.Count(bases, "\n") != 1 {
		t.Errorf("want one base, imported once; it was imported %d times, and the pool has\n%s", imports, bases)
	}
	one.purge()
	two.purge()
	nothingLeft(t)
}
