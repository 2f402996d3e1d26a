package deadline

import "time"

// Hooks observe a [Middleware]. Each is optional, is called on the request's
// goroutine and should return at once. A panic in a hook is not recovered.
type Hooks struct {
	// Exceeded is called once per request whose deadline had passed on arrival
	// or passed before its handler returned, whether or not a 504 was written.
	Exceeded func(*Exceeded)
	// Malformed is called for each refused header statement.
	Malformed func(*FormatError)
	// Late is called when a handler returned more than 100 ms after its
	// deadline. route is its ServeMux pattern, "" where there is none.
	Late func(route string, by time.Duration)
}

func (h Hooks) exceeded(e *Exceeded) {
	if h.Exceeded != nil {
		h.Exceeded(e)
	}
}

func (h Hooks) malformed(e *FormatError) {
	if h.Malformed != nil {
		h.Malformed(e)
	}
}

func (h Hooks) late(route string, by time.Duration) {
	if h.Late != nil {
		h.Late(route, by)
	}
}
