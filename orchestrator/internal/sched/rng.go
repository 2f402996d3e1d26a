package sched

import "time"

// splitmix is the one generator of the core; only Step advances it (ORC-122).
type splitmix uint64

func (s *splitmix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// around returns d ±10 %.
func (s *splitmix) around(d time.Duration) time.Duration {
	return d * time.Duration(900+s.next()%201) / 1000
}
