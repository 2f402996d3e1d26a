// Package gpuinfo answers three questions about the GPUs of this machine: which
// devices are there, how much of their memory is free, and may they be trusted
// with work. If there is none, it says why.
//
// # Results
//
// "No GPU" is a result with a [Reason], never an error. The error of
// [Provider.Snapshot] means only that the caller's context ended or that the provider
// was closed. A number that the driver did not give is unknown (nil) and has a
// [Note]; it is never guessed, and memory of the host is never shown as memory of a
// discrete device.
//
// A device that needs a reset or has fallen off the bus often reports 0 MiB used.
// Such a device has an unknown amount of free memory here, so that it never looks
// like an attractive empty one.
//
// # Memory
//
// [Dedicated] memory is on the card. [Unified] devices of NVIDIA (GB10, Thor, Orin,
// Xavier) report none of their own: they have the host's, and what is free is what the
// host and the limits of our control groups leave. [Carveout] devices are AMD's
// processors with graphics: the part that is set aside and what the driver may map
// beside it, bounded by what the host has left. A [Slice] is a part of a card that is
// split; nvidia-smi tells the nominal size of its profile only, so what is free in it
// is unknown. Graphics of Intel's processors have an unknown amount.
//
// # Sources
//
// [Auto] asks nvidia-smi for NVIDIA's devices and reads the files of the kernel for
// those of AMD and Intel. The tool is taken from a fixed list of trusted absolute
// paths, started without a shell in a process group of its own, limited in time and
// output, and killed together with its children. A driver that hangs in the kernel
// costs at most one child process, one read and their goroutines: until they are gone no
// second ones are started and the answer is [DriverHung]. [First] puts another provider, such
// as the nested module nvml, before it; [Cache] keeps an answer for a short time.
//
// # Choosing and trusting devices
//
// A [Mask] names the devices that a child process may see and writes its environment;
// a [Split] divides a need among several; a [Tracker] remembers faults, so that a
// device that needs a reset stays failed until it got one.
//
// # What is not measured
//
// Performance, memory per process where the driver hides it, faults of AMD's and
// Intel's devices, and display devices of other vendors, which are the consoles of
// servers and of virtual machines.
//
// Values are plain data and may be copied. All providers are safe for use by several
// goroutines at once. Linux only: elsewhere every snapshot says [NoDevice].
package gpuinfo
