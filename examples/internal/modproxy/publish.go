package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// publishAll writes the modules that the workspace file uses.
func publishAll(work, out, version string) error {
	data, err := os.ReadFile(work)
	if err != nil {
		return fmt.Errorf("read workspace: %w", err)
	}
	wf, err := modfile.ParseWork(work, data, nil)
	if err != nil {
		return fmt.Errorf("parse workspace: %w", err)
	}
	if len(wf.Use) == 0 {
		return errors.New("workspace uses no module")
	}
	for _, use := range wf.Use {
		if err := publish(out, filepath.Join(filepath.Dir(work), use.Path), version); err != nil {
			return fmt.Errorf("publish %s: %w", use.Path, err)
		}
	}
	return nil
}

// publish writes the four files that the module proxy protocol has for one
// version: list, info, mod and zip. The time is fixed, so that the same tree
// gives the same bytes.
func publish(out, dir, version string) error {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	m := module.Version{Path: modfile.ModulePath(gomod), Version: version}
	if err := module.Check(m.Path, m.Version); err != nil {
		return err
	}
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, time.Unix(0, 0).UTC()})
	if err != nil {
		return err
	}
	at := filepath.Join(out, escaped, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := writeZip(filepath.Join(at, version+".zip"), m, dir); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(at, version+".info"), info, 0o644),
		os.WriteFile(filepath.Join(at, version+".mod"), gomod, 0o644),
		os.WriteFile(filepath.Join(at, "list"), []byte(version+"\n"), 0o644),
	)
}

func writeZip(path string, m module.Version, dir string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(zip.CreateFromDir(f, m, dir), f.Close())
}
