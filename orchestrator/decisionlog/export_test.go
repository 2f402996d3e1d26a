package decisionlog

// Waiting is the number of entries that Run has not taken.
func Waiting(w *Writer) int { return len(w.ring) }
