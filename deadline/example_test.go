package deadline_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/llorch/llorch/deadline"
)

func Example() {
	m, err := deadline.New(deadline.Config{Default: 5 * time.Minute, Max: 30 * time.Minute})
	if err != nil {
		panic(err)
	}
	srv := httptest.NewServer(m.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // work that does not finish in time
	})))
	defer srv.Close()
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, srv.URL, nil)
	req.Header.Set("X-Request-Timeout-Ms", "20")
	resp, err := srv.Client().Do(req)
	if err != nil {
		panic(err)
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
		panic(err)
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
