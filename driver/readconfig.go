package driver

import (
	"fmt"

	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/msgpack"

	"nomad-driver-virt/rbd"
)

// PluginBlock is the label of the agent's plugin block for this driver.
const PluginBlock = pluginBlock

// ReadConfig reads the config block of the plugin as the agent does at its start,
// with its defaults. The warnings are about old names. An error is what would keep
// the agent from starting; the configuration is then what could be read of it.
func ReadConfig(block map[string]any) (Config, []string, error) {
	none := Config{}.withDefaults()
	value, wrong, err := decodeBlock(configSpec, block, nil)
	if err == nil && len(wrong) > 0 {
		var p problems
		for _, w := range wrong {
			p.addf("config", "%s", w)
		}
		err = p.err("the configuration of plugin " + pluginBlock)
	}
	if err != nil {
		return none, nil, err
	}
	encoded, err := msgpack.Marshal(value, value.Type())
	if err != nil {
		return none, nil, err
	}
	return decodeConfig(encoded)
}

// decodeConfig reads a configuration as Nomad sends it.
func decodeConfig(encoded []byte) (config Config, warnings []string, err error) {
	if len(encoded) != 0 {
		if err := base.MsgPackDecode(encoded, &config); err != nil {
			return Config{}.withDefaults(), nil, fmt.Errorf("the configuration of plugin %s cannot be read: %w", pluginBlock, err)
		}
	}
	config, warnings = config.translate()
	config = config.withDefaults()
	return config, warnings, config.validate()
}

// decodeBlock reads a block by a schema as Nomad does: both at the agent's start, and
// before it starts a task, with variables that the block may name. What does not go
// with the schema is wrong with the block.
func decodeBlock(schema *hclspec.Spec, block map[string]any, variables map[string]cty.Value) (value cty.Value, wrong []string, err error) {
	spec, diags := hclspecutils.Convert(schema)
	if diags.HasErrors() {
		return cty.NilVal, nil, diags
	}
	if block == nil {
		block = map[string]any{}
	}
	value, diags, errs := hclutils.ParseHclInterface(block, spec, variables)
	if !diags.HasErrors() {
		return value, nil, nil
	}
	for _, e := range errs {
		wrong = append(wrong, e.Error())
	}
	return cty.NilVal, wrong, nil
}

// Place is where a storage pool is, by libvirt's name of it.
type Place struct {
	Name string
	Path string    // of a directory
	Ceph *rbd.Pool // of a pool of Ceph's
}

// Places lists the storage pools of a configuration that has its defaults.
func (c Config) Places() []Place {
	var places []Place
	for _, name := range c.StoragePools.names() {
		place := Place{Name: name, Path: c.StoragePools.Directory[name].Path}
		if p, is := c.StoragePools.Ceph[name]; is && p.Authentication != nil {
			place.Ceph = &rbd.Pool{RBD: *p.rbd(name), Key: p.Authentication.Secret}
		}
		places = append(places, place)
	}
	return places
}
