package deadline_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/llorch/llorch/deadline"
)

func Example() {
	m, err := deadline.New(deadline.Config{Default: 5 * time.Minute, Max: 30 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	slow := httptest.NewServer(m.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // work that does not finish in time, and writes nothing
	})))
	defer slow.Close()

	client := &http.Client{Transport: &deadline.Transport{Margin: 1900 * time.Millisecond}} // says what is left
	ctx, cancel := deadline.With(context.Background(), deadline.After(2*time.Second))
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, slow.URL, nil)
	resp, err := client.Do(r) // after 100 ms
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, "Retry-After:", resp.Header.Get("Retry-After"))
	// Output: 504 Gateway Timeout Retry-After: 1
}

func ExampleRequire() {
	ctx, cancel := deadline.With(context.Background(), deadline.After(time.Minute))
	defer cancel()
	fmt.Println(deadline.Require(ctx, time.Second))
	fmt.Println(deadline.Require(ctx, time.Hour) != nil)
	// Output:
	// <nil>
	// true
}

func ExampleMergeRelative() {
	body := struct{ DeadlineMs int64 }{-5}
	_, cancel, err := deadline.MergeRelative(context.Background(), body.DeadlineMs)
	defer cancel()
	fmt.Println(err)
	// Output: deadline_ms: not positive
}

func ExampleTransport() {
	next := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, _ := deadline.FromHeader(r.Header, time.Now())
		fmt.Println("the next hop has a deadline:", !d.IsZero())
	}))
	defer next.Close()
	client := &http.Client{Transport: &deadline.Transport{Default: 10 * time.Second}}
	resp, err := client.Get(next.URL)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	// Output: the next hop has a deadline: true
}

func ExampleFromHeader() {
	h := http.Header{"X-Request-Timeout-Ms": {"250"}, "Grpc-Timeout": {"2S"}}
	arrival := time.Now()
	d, err := deadline.FromHeader(h, arrival)
	fmt.Println(d.Time().Sub(arrival), err)
	_, err = deadline.FromHeader(http.Header{"Grpc-Timeout": {"soon"}}, arrival)
	fmt.Println(err)
	// Output:
	// 250ms <nil>
	// grpc-timeout: not 1 to 8 digits and a unit
}

func ExampleInject() {
	ctx, cancel := deadline.With(context.Background(), deadline.After(-time.Second))
	defer cancel()
	fmt.Println(deadline.Inject(ctx, http.Header{}, 0))
	// Output: deadline exceeded (stage dispatch, budget -1s)
}
