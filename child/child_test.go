package child

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// parent has this program run one that waits for ever, and tell its process.
const parent = "CHILD_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parent) == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("sh", "-c", "echo $$; exec cat")
	endless, _ := io.Pipe()
	cmd.Stdin, cmd.Stdout = endless, os.Stdout
	fmt.Fprintln(os.Stderr, Run(cmd)) // which does not end
	os.Exit(1)
}

func TestProgramDiesWithThisProcess(t *testing.T) {
	own := exec.Command("/proc/self/exe")
	own.Env = append(os.Environ(), parent+"=1")
	out, err := own.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, err = fmt.Fscan(bufio.NewReader(out), &pid)
	if kill := own.Process.Kill(); err != nil || kill != nil {
		t.Fatalf("the program has not told its process: %v, %v", err, kill)
	}
	_ = own.Wait() // it was killed
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || isZombie(state) {
			return
		}
		if time.Since(began) > 10*time.Second {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d is there 10 s after the one that has run it: %s", pid, state)
		}
	}
}

// isZombie tells a process that has ended and that nobody has waited for.
func isZombie(stat []byte) bool {
	var pid int
	var name, state string
	_, err := fmt.Sscan(string(stat), &pid, &name, &state)
	return err == nil && state == "Z"
}

func TestRunTellsHowTheProgramEnded(t *testing.T) {
	if err := Run(exec.Command("true")); err != nil {
		t.Errorf("what ends well: %v", err)
	}
	if err := Run(exec.Command("false")); err == nil {
		t.Error("what fails has no error")
	}
}
