package queue

// State is a queue as plain data (ORC-124).
type State struct {
	Items []Item `json:"items"` // by class and arrival
	Open  []ID   `json:"open"`  // those that may be picked, in the order of Items
	Seq   uint64 `json:"seq"`
}

// State returns the queue as plain data.
func (q *Queue) State() State {
	s := State{Items: q.All(), Open: []ID{}, Seq: q.seq}
	for _, it := range s.Items {
		if q.byID[it.ID].place >= 0 {
			s.Open = append(s.Open, it.ID)
		}
	}
	return s
}

// Load fills an empty queue.
func (q *Queue) Load(s State) error {
	for _, it := range s.Items {
		if it.Class >= classes {
			return ErrDuplicate
		}
		q.Return(it)
	}
	for _, id := range s.Open {
		q.Open(id)
	}
	q.seq = s.Seq
	return nil
}
