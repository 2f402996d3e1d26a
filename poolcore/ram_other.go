//go:build !linux

package poolcore

func ramTotal() uint64 { return 0 }
