package cloudinit

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readOnly are variables that bash keeps for itself: setting one ends a script
// that /bin/sh runs, where that is bash.
var readOnly = []string{"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"}

// shellEnv writes env for a shell to source. Names that a shell cannot set are
// left out.
func shellEnv(env map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if identifier.MatchString(name) && !slices.Contains(readOnly, name) {
			fmt.Fprintf(&b, "export %s=%s\n", name, shellQuote(env[name]))
		}
	}
	return b.String()
}

// systemdEnv writes env as an EnvironmentFile of systemd. Within double quotes
// systemd takes newlines as they are. It refuses the whole file for one value
// that is not UTF-8, so such values are left out.
func systemdEnv(env map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if identifier.MatchString(name) && utf8.ValidString(env[name]) {
			fmt.Fprintf(&b, "%s=\"%s\"\n", name, escape.Replace(env[name]))
		}
	}
	return b.String()
}

// runCmds writes the script that runs cmds in order, with the variables of the
// file env. In the directory state it keeps what one shell leaves to the next.
func runCmds(cmds []string, env, state string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/sh\n# Runs the commands of the task, in order.\n")
	fmt.Fprintf(&b, "virt_env=%s\nvirt_state=%s\nvirt_count=%d\n", shellQuote(env), shellQuote(state), len(cmds))
	fmt.Fprintf(&b, "virt_pick() {\n\tcase $1 in\n")
	for i, cmd := range cmds {
		fmt.Fprintf(&b, "\t%d) virt_command=%s ;;\n", i, shellQuote(cmd))
	}
	fmt.Fprintf(&b, "\tesac\n}\n")
	b.WriteString(runLoop)
	return b.String()
}

// shellQuote writes s as one word of the shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
