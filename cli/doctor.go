package cli

import (
	"context"
	"flag"
	"slices"

	"nomad-driver-virt/agentfile"
	"nomad-driver-virt/doctor"
	"nomad-driver-virt/driver"
	"nomad-driver-virt/vm"
)

const doctorHelp = `Usage: nomad-driver-virt doctor [options]

Looks at this host, and says in a line for each thing whether it is ok, a warning or a
problem, and what mends it. It changes nothing. Run it as root.

  -config PATH   configuration of the Nomad agent, as for nomad agent: a file, or a
                 directory of them; may be repeated. Without it, or if it cannot be read,
                 the plugin's defaults are taken, and what the agent says is unchecked.
  -json          print JSON

Exit status: 0 no problem (there may be warnings), 1 a problem, 2 the command line is
wrong.
`

func runDoctor(ctx context.Context, s Streams, flags *flag.FlagSet, args []string) error {
	var configs several
	flags.Var(&configs, "config", "")
	asJSON := flags.Bool("json", false, "")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	settings := settingsFor(configs)
	found := doctor.Examine(settings, doctor.Gather(ctx, settings))
	show := doctor.Print
	if *asJSON {
		show = doctor.PrintJSON
	}
	if err := show(s.Out, found); err != nil {
		return err
	}
	if doctor.Worst(found) == doctor.Problem {
		return errSaid
	}
	return nil
}

// settingsFor are what the agent's files say, or the plugin's defaults, also where the
// files cannot be read.
func settingsFor(paths []string) doctor.Settings {
	var settings doctor.Settings
	var plugin map[string]any
	if len(paths) > 0 {
		agent, err := agentfile.Read(driver.PluginBlock, paths...)
		if err != nil {
			settings.Unread = err
		} else {
			settings.Agent, plugin = agentOf(agent), agent.Plugin
		}
	}
	config, warnings, err := driver.ReadConfig(plugin)
	settings.Wrong, settings.Warnings = err, warnings
	libvirt := config.Provider.Libvirt
	settings.URI, settings.User, settings.Password = libvirt.URI, libvirt.User, libvirt.Password
	settings.Acceleration, settings.NWFilter = config.Acceleration, config.NWFilter
	settings.Directories = slices.Concat(config.ImagePaths, config.UserDataPaths)
	for _, p := range config.Places() {
		settings.Pools = append(settings.Pools, doctor.Pool(p))
	}
	return settings
}

func agentOf(a agentfile.Agent) *doctor.Agent {
	return &doctor.Agent{
		Files:          a.Files,
		Client:         a.Client,
		HasPlugin:      a.Plugin != nil,
		DataDir:        a.DataDir,
		PluginDir:      a.PluginDir,
		MaxKillTimeout: a.MaxKillTimeout,
		Reserved:       vm.Bytes(max(0, a.ReservedMemory)) * vm.MiB,
		Memory:         vm.Bytes(max(0, a.TotalMemory)) * vm.MiB,
	}
}
