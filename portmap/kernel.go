package portmap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// load reads from the kernel what is published.
func (t *Table) load(ctx context.Context) (published, error) {
	if !t.adopted {
		if err := adopt(ctx); err != nil {
			return nil, err
		}
		t.adopted = true
	}
	all, _, err := loadFamily(ctx, "inet")
	return all, err
}

// adopt takes over what an earlier version of the driver has published, in a table
// of IPv4 alone. In one transaction, so that no port is away meanwhile; connections
// stay translated as they are.
func adopt(ctx context.Context) error {
	old, is, err := loadFamily(ctx, "ip")
	if err != nil || !is {
		return err
	}
	now, _, err := loadFamily(ctx, "inet")
	if err != nil {
		return err
	}
	maps.DeleteFunc(old, func(k port, _ target) bool { _, is := now[k]; return is })
	text := "delete table ip " + tableName + "\n" + transaction(nil, old, now.with(nil, old))
	_, err = run(ctx, text, "nft", "-f", "-")
	return err
}

// loadFamily reads what is published by our table of a family, if there is one.
func loadFamily(ctx context.Context, family string) (all published, is bool, err error) {
	out, err := run(ctx, "", "nft", "-j", "list", "table", family, tableName)
	if isMissing(err) {
		return published{}, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	all, err = parseMaps(out)
	return all, true, err
}

// isMissing tells nft's error of what is not there.
func isMissing(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Error: No such file or directory")
}

// parseMaps reads nft's JSON of the maps of ports. An element without a comment
// of ours has no owner and is left out; the kernel protects it all the same.
func parseMaps(text []byte) (published, error) {
	type concat struct {
		Concat []json.RawMessage `json:"concat"`
	}
	var list struct {
		Nftables []struct {
			Map struct {
				Elem [][2]struct {
					Elem struct {
						Val     concat `json:"val"`
						Comment string `json:"comment"`
					} `json:"elem"`
					concat
				} `json:"elem"`
			} `json:"map"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read the table %s: nft's JSON: %w", tableName, err)
	}
	all := published{}
	for _, object := range list.Nftables {
		for _, e := range object.Map.Elem {
			key, value := e[0].Elem.Val.Concat, e[1].Concat
			to, ok := parseComment(e[0].Elem.Comment)
			if !ok || len(key) != 3 || len(value) != 2 {
				continue
			}
			host, err := addrPort(key[0], key[2])
			if err != nil {
				return nil, err
			}
			if to.Guest, err = addrPort(value[0], value[1]); err != nil {
				return nil, err
			}
			all[port{host, unquote(key[1])}] = to
		}
	}
	return all, nil
}

func addrPort(addr, port json.RawMessage) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(net.JoinHostPort(unquote(addr), string(port)))
	if err != nil {
		return ap, fmt.Errorf("read the table %s: %w", tableName, err)
	}
	return ap, nil
}

func unquote(s json.RawMessage) string { return strings.Trim(string(s), `"`) }

// routeLocalnet lets packets from 127.0.0.1 out to a bridge, or no longer, as
// is the kernel's default.
func routeLocalnet(bridge string, on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	err := os.WriteFile("/proc/sys/net/ipv4/conf/"+bridge+"/route_localnet", []byte(value), 0)
	if !on && errors.Is(err, fs.ErrNotExist) {
		return nil // the bridge is gone
	}
	if err != nil {
		return fmt.Errorf("set route_localnet of bridge %q to %s: %w", bridge, value, err)
	}
	return nil
}

// forwardsIPv6 is an error where the host forwards no IPv6, and what is published
// would answer nobody but the host.
func forwardsIPv6() error {
	const setting = "/proc/sys/net/ipv6/conf/all/forwarding"
	value, err := os.ReadFile(setting)
	if err != nil {
		return fmt.Errorf("IPv6 is off on this host: %w", err)
	}
	if strings.TrimSpace(string(value)) == "0" {
		return fmt.Errorf("the host forwards no IPv6, which libvirt turns on when it starts a network with IPv6: " +
			"sysctl -w net.ipv6.conf.all.forwarding=1 (where the host has its own routes from router " +
			"advertisements, with accept_ra=2 on that interface before)")
	}
	return nil
}

// run runs a program with the text as its input and returns its output.
func run(ctx context.Context, input, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // its messages are read
	cmd.Stdin = strings.NewReader(input)
	cmd.WaitDelay = time.Second // where a child of its own holds its output
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w: install it, published ports need it", err)
	}
	if err != nil && ctx.Err() != nil { // which has killed it
		return nil, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), context.Cause(ctx))
	}
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		return nil, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, first)
	}
	return out, nil
}
