//go:build !linux

package poolcore

func ramTotal() uint64 { return 0 }

func ramAvailable() uint64 { return 0 }

func diskFree(string) (uint64, bool) { return 0, false }
