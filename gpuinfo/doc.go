// Package gpuinfo answers three questions about the GPUs of this machine: which
// devices are there, how much of their memory is free, and may they be trusted
// with work. If there is none, it says why.
//
// # Results
//
// "No GPU" is a result with a [Reason], never an error. The error of
// [Provider.Snapshot] means only that the caller's context ended. A number that
// the driver did not give is unknown (nil) and has a [Note]; it is never guessed,
// and memory of the host is never shown as memory of a device.
//
// A device that needs a reset or has fallen off the bus often reports 0 MiB used.
// Such a device has an unknown amount of free memory here, so that it never looks
// like an attractive empty one.
//
// # Sources
//
// Today [Auto] asks nvidia-smi. The tool is taken from a fixed list of trusted
// absolute paths, started without a shell in a process group of its own, limited
// in time and output, and killed together with its children. A driver that hangs
// in the kernel costs at most one child process: until that child is gone no
// second one is started and the answer is [DriverHung].
//
// # What is not measured
//
// Memory of unified-memory machines and of MIG slices, AMD and Intel devices and
// per-process use are not read yet. A device with MIG enabled is listed but is
// not [Device.Usable] as a whole.
//
// Values are plain data and may be copied. All providers are safe for use by
// several goroutines at once.
package gpuinfo
