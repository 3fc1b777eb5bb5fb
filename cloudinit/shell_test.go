package cloudinit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shells are what /bin/sh is in a guest: Debian's, and Red Hat's.
var shells = map[string][]string{
	"dash": {"dash"},
	"bash": {"bash", "--posix"},
}

const shellDeadline = 30 * time.Second

// runShell runs a command in an empty environment. Its output goes to files, so
// that what it leaves in the background does not hold up the test.
func runShell(t *testing.T, dir string, argv ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), shellDeadline)
	defer cancel()
	out, errs := create(t, dir, "stdout"), create(t, dir, "stderr")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, []string{"PATH=" + os.Getenv("PATH")}, out, errs
	err := cmd.Run()
	stdout, stderr = read(t, out.Name()), read(t, errs.Name())
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, stderr)
	}
	return stdout, stderr
}

func create(t *testing.T, dir, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hostile are values that a careless quoting would change.
func hostile() map[string]string {
	var all strings.Builder
	for c := 1; c < 256; c++ {
		all.WriteByte(byte(c))
	}
	return map[string]string{
		"ALL_BYTES":        all.String(),
		"BACKQUOTES":       "`touch pwned`",
		"BACKSLASHES":      `\ \\ \n \" trailing\`,
		"DOLLARS":          `$HOME ${HOME} $(touch pwned) $$`,
		"EMPTY":            "",
		"LEADING_DASH":     "-n -e",
		"NEWLINES":         "one\n\ntwo\n",
		"NOT_UTF8":         "\xff\xfe\x80\x81\x82\x83\x84\x85\x86\x87\x88",
		"QUOTES":           `it's "quoted" '''`,
		"SPACES":           "  two  spaces  ",
		"UNICODE":          "grüße 😀",
		"lower_case":       "tab\there\r\n",
		"_1":               "\x01\x7f\x1b[0m",
		"NOMAD_PORT_http1": "*?[a] ~ # ; & | < >",
	}
}

func TestEnvScriptGivesEveryValueBack(t *testing.T) {
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "env.sh")
			write(t, file, shellEnv(hostile()))
			for variable, want := range hostile() {
				script := `. "$1"; printf %s "$` + variable + `"; exec env -0 >environ`
				got, stderr := runShell(t, dir, append(shell, "-c", script, "sh", file)...)
				if got != want {
					t.Errorf("%s is %q in the shell, want %q\n%s", variable, got, want, stderr)
				}
				exported := strings.Split(read(t, filepath.Join(dir, "environ")), "\x00")
				if !slices.Contains(exported, variable+"="+want) {
					t.Errorf("%s is not exported as %q", variable, want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
				t.Error("a value was run as a command")
			}
		})
	}
}

func TestEnvScriptLeavesOutWhatNoShellCanSet(t *testing.T) {
	env := map[string]string{"": "x", "1A": "x", "A-B": "x", "A.B": "x", "A B": "x", "A;touch pwned": "x", "Ä": "x",
		"UID": "1", "PPID": "1", "EUID": "1", "SHELLOPTS": "x", "BASHOPTS": "x", "BASH_VERSINFO": "x", "GOOD": "yes"}
	if got, want := shellEnv(env), "export GOOD='yes'\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEnvironmentFileOfSystemd(t *testing.T) {
	env := hostile()
	env["A-B"] = "no name"
	golden(t, "environment.golden", []byte(systemdEnv(env)))
}

var reported = regexp.MustCompile(`(?m)^nomad-driver-virt: (cmds\[\d+\] ended with status) \d+$`)

func TestRunCmds(t *testing.T) {
	for name, c := range map[string]struct {
		cmds   []string
		want   string
		failed []string // beginnings of the lines about commands that failed
	}{
		"in order, whatever fails": {
			cmds:   []string{"echo 1", "false", "no-such-program", "echo 2", "(exit 7)"},
			want:   "1\n2\n",
			failed: ended(1, 2, 4),
		},
		"a directory is kept":       {cmds: []string{"mkdir -p 'a b'", "cd 'a b'", "basename \"$PWD\""}, want: "a b\n"},
		"a variable is kept":        {cmds: []string{"x='1 2'", `echo "$x"`, `sh -c 'echo "<$x>"'`}, want: "1 2\n<>\n"},
		"a function is kept":        {cmds: []string{"f() { echo \"f $1\"; }", "f 1"}, want: "f 1\n"},
		"a sourced file is kept":    {cmds: []string{"echo 'y=from-file' >file", ". ./file", "echo $y"}, want: "from-file\n"},
		"a background job is known": {cmds: []string{"(exit 3) & job=$!", "wait $job", "echo after"}, want: "after\n", failed: ended(1)},
		"output stays redirected":   {cmds: []string{"exec 3>&1 >file", "echo hidden", "cat file >&3"}, want: "hidden\n"},
		"the environment is set":    {cmds: []string{`echo "$GREETING"`}, want: "it's $HOME\n"},
		"no arguments":              {cmds: []string{`echo "$# $*"`}, want: "0 \n"},
		"exit ends one command":     {cmds: []string{"exit 3", "echo next", "exit 0", "echo last"}, want: "next\nlast\n", failed: ended(0)},
		"exec ends one command":     {cmds: []string{"exec echo one", "exec false", "echo next"}, want: "one\nnext\n", failed: ended(1)},
		"return ends one command":   {cmds: []string{"return 4; echo no", "echo next"}, want: "next\n", failed: ended(0)},
		"break ends one command":    {cmds: []string{"break 5; echo no", "echo next"}, want: "next\n"},
		"continue ends one command": {cmds: []string{"continue; echo no", "echo next"}, want: "next\n"},
		"set -e ends one command":   {cmds: []string{"set -e", "false; echo no", "echo next; false", "echo last"}, want: "next\nlast\n", failed: ended(1, 2)},
		"set -u ends one command":   {cmds: []string{"set -u; echo $none; echo no", "echo next"}, want: "next\n", failed: ended(0)},
		"a quote without end":       {cmds: []string{"echo 'no", `echo "no`, "echo next"}, want: "next\n", failed: ended(0, 1)},
		"a syntax error":            {cmds: []string{"if then", ")", "}; echo no", "echo next"}, want: "next\n", failed: ended(0, 1, 2)},
		"a here-document":           {cmds: []string{"cat <<END\nhello\nEND", "echo next"}, want: "hello\nnext\n"},
		"a killed shell":            {cmds: []string{"sh -c 'kill -9 $PPID'", "echo next"}, want: "next\n", failed: ended(0)},
		"no clobbering":             {cmds: []string{"set -C; echo 1", "echo 2", "exit", "echo 3"}, want: "1\n2\n3\n"},
		"no PATH":                   {cmds: []string{"PATH=/nonexistent", "echo 1", "exit 1", "echo 2"}, want: "1\n2\n", failed: ended(2)},
		"a trap of the user's":      {cmds: []string{"trap 'echo bye' EXIT", "cd /; exit 1", "echo next"}, want: "bye\nnext\n", failed: ended(1)},
		"other field separators":    {cmds: []string{"export IFS=0123456789", "exit", "x='a1b'; echo $x"}, want: "a b\n"},
		"common names":              {cmds: []string{"i=0 n=9 state=x next=7 count=1 status=1", "export i n", "exit", "echo $i$n"}, want: "09\n"},
		"nothing to do":             {cmds: []string{"", "# a comment", "echo 1 # comment", "   "}, want: "1\n"},
		"several lines":             {cmds: []string{"for x in 1 2\ndo\n\techo $x\ndone\n"}, want: "1\n2\n"},
		"bytes":                     {cmds: []string{"printf %s '\xff\x81\x88\x7f\x01é'", "printf %s \"$(printf '\\\\')\""}, want: "\xff\x81\x88\x7f\x01é\\"},
		"a new shell knows the exported variables": {
			cmds: []string{`export V="it's
a \"\$HOME\" \\ ` + "\x01\xff`" + `echo x` + "`" + `"`, "local_only=1", "exec true", `printf '<%s>' "$V" "$local_only"`},
			want: "<it's\na \"$HOME\" \\ \x01\xffx><>",
		},
		"a new shell starts in the directory of the last": {
			cmds: []string{"mkdir d; cd d", "exit 1", "basename \"$PWD\"", "cd ..; exec true", "basename \"$PWD\"; echo \"$virt_directory\""},
			want: "d\nd\n\n", failed: ended(1),
		},
		"a variable that cannot be set again": {
			cmds: []string{"readonly R=1; export R", "exit 1", "R=2; echo $R"}, want: "2\n", failed: ended(1),
		},
		"all variables exported": {cmds: []string{"set -a; V=1", "exit", "sh -c 'echo $V'", "exit", "echo end"}, want: "1\nend\n"},
	} {
		for shellName, shell := range shells {
			t.Run(name+"/"+shellName, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				write(t, dir+"/env.sh", shellEnv(map[string]string{"GREETING": "it's $HOME"}))
				write(t, dir+"/run-cmds", runCmds(c.cmds, dir+"/env.sh", dir+"/state dir"))
				stdout, stderr := runShell(t, dir, append(shell, dir+"/run-cmds")...)
				if diff := cmp.Diff(c.want, stdout); diff != "" {
					t.Errorf("output (-want +got):\n%s\nerrors:\n%s", diff, stderr)
				}
				var failed []string
				for _, m := range reported.FindAllStringSubmatch(stderr, -1) {
					failed = append(failed, m[1])
				}
				if diff := cmp.Diff(c.failed, failed); diff != "" {
					t.Errorf("failures told (-want +got):\n%s\nerrors:\n%s", diff, stderr)
				}
				if _, err := os.Stat(dir + "/state dir"); err == nil {
					t.Error("what the shells hand on, with the task's secrets, is still there")
				}
			})
		}
	}
}

func ended(indices ...int) []string {
	var lines []string
	for _, i := range indices {
		lines = append(lines, "cmds["+strconv.Itoa(i)+"] ended with status")
	}
	return lines
}

func TestRunCmdsDoesNotWaitForTheBackground(t *testing.T) {
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/env.sh", "")
			cmds := []string{"mkfifo gate", "cat gate >served & echo started", "echo next"}
			write(t, dir+"/run-cmds", runCmds(cmds, dir+"/env.sh", dir+"/state"))
			stdout, _ := runShell(t, dir, append(shell, dir+"/run-cmds")...)
			if want := "started\nnext\n"; stdout != want {
				t.Errorf("output %q, want %q", stdout, want)
			}
			write(t, dir+"/gate", "still alive")
			deadline := time.Now().Add(shellDeadline)
			for read(t, dir+"/served") != "still alive" {
				if time.Now().After(deadline) {
					t.Fatal("the job in the background ended with the commands, want it alive")
				}
			}
		})
	}
}

func TestRunCmdsKeepsItsStatePrivate(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/env.sh", "")
	write(t, dir+"/run-cmds", runCmds([]string{"umask 0; true", "ls -ld state"}, dir+"/env.sh", dir+"/state"))
	stdout, _ := runShell(t, dir, "dash", dir+"/run-cmds")
	if !strings.HasPrefix(stdout, "drwx------") {
		t.Errorf("the state directory is %q, want drwx------", stdout)
	}
}
