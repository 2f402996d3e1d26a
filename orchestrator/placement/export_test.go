package placement

// Filters are the names of the filters in their order, and how many are static.
func Filters() (list []string, static int) {
	for _, f := range filters {
		list = append(list, f.name)
	}
	return list, online
}

// Memos returns how many sets of requirements the view keeps notes for.
func (v *View) Memos() int { return len(v.memo) }

// Sessions returns how many counts per session and node the view keeps.
func (v *View) Sessions() int { return len(v.spread) }

// Collide lets the number of one set of requirements stand for another one.
func (v *View) Collide(r, other Request) {
	v.memo[pass{v.key(&r), false}] = v.static(&other, v.key(&other), false)
}

// Free returns the slots of a worker that a new task may take.
func (v *View) Free(k Key) int {
	if i, ok := find(v.rows, k); ok {
		return v.rows[i].free
	}
	return 0
}
