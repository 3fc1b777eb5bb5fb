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
                 directory of them; may be repeated. Without it the plugin's defaults are
                 taken, and what the agent says is unchecked.
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
	settings, err := settingsFor(configs)
	if err != nil {
		return err
	}
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

// settingsFor are what the agent's files say, or the plugin's defaults.
func settingsFor(paths []string) (doctor.Settings, error) {
	var settings doctor.Settings
	var agent agentfile.Agent
	var err error
	if len(paths) > 0 {
		if agent, err = agentfile.Read(driver.PluginBlock, paths...); err != nil {
			return settings, err
		}
		settings.Agent = &doctor.Agent{
			Files:          agent.Files,
			Client:         agent.Client,
			HasPlugin:      agent.Plugin != nil,
			DataDir:        agent.DataDir,
			PluginDir:      agent.PluginDir,
			MaxKillTimeout: agent.MaxKillTimeout,
			Reserved:       vm.Bytes(max(0, agent.ReservedMemory)) * vm.MiB,
			Memory:         vm.Bytes(max(0, agent.TotalMemory)) * vm.MiB,
		}
	}
	config, warnings, err := driver.ReadConfig(agent.Plugin)
	settings.Wrong, settings.Warnings = err, warnings
	libvirt := config.Provider.Libvirt
	settings.URI, settings.User, settings.Password = libvirt.URI, libvirt.User, libvirt.Password
	settings.Acceleration, settings.NWFilter = config.Acceleration, config.NWFilter
	settings.Directories = slices.Concat(config.ImagePaths, config.UserDataPaths)
	for _, p := range config.Places() {
		settings.Pools = append(settings.Pools, doctor.Pool(p))
	}
	return settings, nil
}
