package poolcore

import (
	"os"

	"github.com/llorch/llorch/poolcore/engine"
)

// preflight looks for every reason why a worker of pc can not be started. It
// changes nothing but a probe file that it removes. What a caller may ask for at
// all (allow-lists, ranges) was checked before; this is about the machine as it is
// now, so it runs again before each restart.
func (c *hostCrew) preflight(pc PoolConfig, k engine.Kind) []Fault {
	var faults []Fault
	add := func(code Code, detail string) { faults = append(faults, Fault{Code: code, Detail: detail}) }
	info, err := os.Stat(c.cfg.Binaries[pc.Binary])
	switch {
	case err != nil:
		add(BinaryMissing, "the engine's binary can not be found")
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		add(BinaryNotExecutable, "the engine's binary is not an executable file")
	}
	if engine.ProfileOf(k).ModelFile {
		if info, err := os.Stat(pc.ModelPath); err != nil || !info.Mode().IsRegular() {
			add(ModelMissing, "model_path is not a file that can be read")
		} else if f, err := os.Open(pc.ModelPath); err != nil {
			add(ModelMissing, "model_path is not a file that can be read")
		} else {
			_ = f.Close()
		}
	}
	if err := c.state.MkdirAll(workersDir, 0o700); err != nil {
		add(DirNotWritable, "the state directory can not be written")
	} else if f, err := c.state.OpenFile(workersDir+"/.probe-"+pc.ID, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		add(DirNotWritable, "the state directory can not be written")
	} else {
		_ = f.Close()
		_ = c.state.Remove(workersDir + "/.probe-" + pc.ID)
	}
	return faults
}
