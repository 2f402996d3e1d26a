package poolregistry_test

import (
	"cmp"

	. "github.com/llorch/llorch/poolregistry"
)

func compareIDs(a, b NodeID) int { return cmp.Compare(a, b) }
