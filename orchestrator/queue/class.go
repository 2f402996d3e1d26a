package queue

import "fmt"

// Class orders tasks before anything else. The zero value is Interactive.
type Class uint8

// The classes, highest first. An interactive task always goes before a batch task.
const (
	Interactive Class = iota
	Batch
	classes // number of classes
)

// ParseClass reads a class; the empty string is Interactive.
func ParseClass(s string) (Class, error) {
	switch s {
	case "", "interactive":
		return Interactive, nil
	case "batch":
		return Batch, nil
	}
	return 0, fmt.Errorf("queue: class is neither interactive nor batch")
}

func (c Class) String() string {
	if c == Batch {
		return "batch"
	}
	return "interactive"
}
