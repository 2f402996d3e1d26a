package authmin_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/llorch/llorch/authmin"
)

// A service with one token, and a client that carries it.
func Example() {
	tok := authmin.Generate("demo") // print tok.Reveal() once; every other way is redacted
	keys, err := authmin.NewKeySet(authmin.Key{Name: "laptop", Token: tok})
	if err != nil {
		log.Fatal(err)
	}
	gate, err := authmin.New(authmin.Config{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := authmin.BindPolicy{}.Listen(context.Background(), "tcp", "127.0.0.1:0", keys.Len() > 0)
	if err != nil {
		log.Fatal(err)
	}
	hello := func(w http.ResponseWriter, r *http.Request) {
		p, _ := authmin.PrincipalFrom(r.Context())
		fmt.Fprint(w, "hello ", p.Name)
	}
	srv := &http.Server{Handler: gate.Wrap(http.HandlerFunc(hello))}
	go srv.Serve(ln)
	defer srv.Close()

	get := func(c *http.Client) {
		resp, err := c.Get("http://" + ln.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, strings.TrimSpace(string(body)))
	}
	get(http.DefaultClient)
	get(&http.Client{Transport: &authmin.Transport{
		Token: func(context.Context) (authmin.Token, error) { return tok, nil },
		Hosts: []string{ln.Addr().String()},
	}})
	// Output:
	// 401 A token is required.
	// 200 hello laptop
}

func ExampleBindPolicy_Check() {
	policy := authmin.BindPolicy{Hint: "set TOKEN_FILE"}
	fmt.Println(policy.Check(context.Background(), "tcp", "127.0.0.1:8080", false))
	fmt.Println(policy.Check(context.Background(), "tcp", ":8080", false))
	fmt.Println(policy.Check(context.Background(), "tcp", ":8080", true))
	// Output:
	// <nil>
	// authmin: listen tcp ":8080": the address is not loopback and there is no token; set TOKEN_FILE
	// <nil>
}

func ExampleParseBearer() {
	tok, err := authmin.ParseBearer("Bearer test")
	fmt.Println(tok, err)
	_, err = authmin.ParseBearer("Bearer a b")
	fmt.Println(err)
	// Output:
	// [token 9f86d0] <nil>
	// authmin: malformed bearer token
}

func ExampleKeySet_Replace() {
	keys, err := authmin.NewKeySet(authmin.Key{Name: "old", Token: authmin.Generate("demo")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keys.Replace(), keys.Len()) // an emptied secret file changes nothing
	// Output: authmin: no keys 1
}

func ExampleParseKeys() {
	keys, err := authmin.ParseKeys([]byte(`# who may call
llorch_AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH
web llorch_IIIIJJJJKKKKLLLLMMMMNNNNOOOOPPPP 2030-01-01T00:00:00Z tags=tenant.acme
`), "api")
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range keys {
		fmt.Println(k.Name, k.Token, k.NotAfter.IsZero(), k.Tags)
	}
	_, err = authmin.ParseKeys([]byte("# who may call\nweb  secret\n"), "api")
	fmt.Println(err)
	// Output:
	// api [token 0d89d3] true []
	// web [token 18f20d] false [tenant.acme]
	// authmin: key file, line 2: it begins or ends with a space, or holds two in a row
}

func ExampleKeySet_Rotate() {
	first, next := authmin.Generate("demo"), authmin.Generate("demo")
	keys, err := authmin.NewKeySet(authmin.Key{Name: "laptop", Token: first})
	if err != nil {
		log.Fatal(err)
	}
	old, added, err := keys.Rotate("laptop", next, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(old.Name, "ends within the hour:", time.Until(old.NotAfter) <= time.Hour)
	fmt.Println(added.Name, "has no end:", added.NotAfter.IsZero())
	for _, tok := range []authmin.Token{first, next} {
		_, err := keys.Verify(context.Background(), tok)
		fmt.Println("live:", err == nil)
	}
	// Output:
	// laptop ends within the hour: true
	// laptop has no end: true
	// live: true
	// live: true
}

// A node may call the service from the same machine without a token, but not
// register itself.
func ExampleGate_WrapStrict() {
	keys, err := authmin.NewKeySet(authmin.Key{Name: "node", Token: authmin.Generate("demo")})
	if err != nil {
		log.Fatal(err)
	}
	gate, err := authmin.New(authmin.Config{Keys: keys, LoopbackOptional: true})
	if err != nil {
		log.Fatal(err)
	}
	done := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	mux := http.NewServeMux()
	mux.Handle("GET /v2/nodes", gate.Wrap(done))
	mux.Handle("POST /v2/nodes", gate.WrapStrict(done))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r, err := http.NewRequest(method, srv.URL+"/v2/nodes", http.NoBody)
		if err != nil {
			log.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(method, resp.StatusCode)
	}
	// Output:
	// GET 200
	// POST 401
}

func ExampleGate_Authorize() {
	gate, err := authmin.New(authmin.Config{LoopbackOptional: true})
	if err != nil {
		log.Fatal(err)
	}
	_, err = gate.Authorize(httptest.NewRequest(http.MethodGet, "http://192.0.2.1/v2/tasks", http.NoBody))
	fmt.Println(err)
	// Output: authmin: Only local requests are served without a token.
}

func ExampleTransport() {
	client := &http.Client{Transport: &authmin.Transport{
		Token: func(context.Context) (authmin.Token, error) { return authmin.Generate("demo"), nil },
		Hosts: []string{"orchestrator.lan"},
	}}
	_, err := client.Get("https://elsewhere.example/")
	fmt.Println(err)
	// Output: Get "https://elsewhere.example/": authmin: host not listed
}
