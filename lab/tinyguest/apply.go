package main

import (
	"os"
	"os/exec"
	"path/filepath"
)

func writeFiles(files []file) {
	for _, f := range files {
		if err := f.write(); err != nil {
			logf("write_files %s: %v", f.Path, err)
		}
	}
}

func (f file) write() error {
	content, err := f.bytes()
	if err != nil {
		return err
	}
	mode, err := f.mode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(f.Path, content, mode); err != nil {
		return err
	}
	return os.Chmod(f.Path, mode) // the file may have been there before
}

// runScript runs a script to its end, on the console; an empty one is nothing to do.
func runScript(name, script string) {
	if script == "" {
		return
	}
	path := filepath.Join("/run/tiny", name)
	f := file{Path: path, Content: script, Permissions: "0700"}
	err := f.write()
	if err == nil {
		cmd := exec.Command(path)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Dir = "/"
		err = cmd.Run()
	}
	if err != nil {
		logf("%s: %v", name, err)
	}
}
