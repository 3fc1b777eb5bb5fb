package driver

import (
	"github.com/hashicorp/nomad/plugins/drivers"
)

// endFormer takes leave of earlier starts of a task in its allocation. Nomad has forgotten
// them, if its agent ended before it knew that they had succeeded, and this plugin has
// not: their VMs are about to be removed, and nothing of them is to be put right any more.
func (d *Driver) endFormer(cfg *drivers.TaskConfig) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, t := range d.tasks {
		if taskOf(t.cfg) == taskOf(cfg) {
			t.noteDestroyed()
			delete(d.tasks, id)
		}
	}
}
