package placement

// Spare counts the free slots of the workers that take work and that ok accepts; it
// stops once it has found enough.
func (v *View) Spare(enough int64, ok func(*Worker) bool) (n int64) {
	for i := range v.rows {
		if r := &v.rows[i]; r.free > 0 && r.open() && ok(r.Worker) {
			if n += int64(r.free); n >= enough {
				break
			}
		}
	}
	return n
}
