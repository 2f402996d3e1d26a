package audit_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
)

func Example() {
	ctx := context.Background()
	tmp, err := os.MkdirTemp("", "audit")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "log")

	log, err := audit.Open(ctx, audit.Config{Dir: dir, Service: "shop", Types: events.Types()})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Routine: queued, never waits for the disk.
	alice := audit.User("alice@example.com", netip.MustParseAddr("192.0.2.7"))
	if _, err := log.Emit(ctx, audit.Event{Actor: alice, Data: events.AuthSuccess{Path: "/login"}}); err != nil {
		fmt.Println(err) // counted already, and told by a gap record
	}
	// Durable: do not go on without it.
	rc, err := log.Append(ctx, audit.Event{Actor: alice, Data: events.TaskSubmitted{
		TaskID: "t-1", ModelRef: "llama", PromptLength: 5, PromptSHA256: sha256.Sum256([]byte("hello")), CustomerID: "alice",
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("durable as record", rc.Seq)
	if err := log.Close(ctx); err != nil {
		fmt.Println(err)
	}

	rep, err := audit.Verify(ctx, os.DirFS(dir), audit.VerifyOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(rep.OK, rep.Assurance, rep.Records, "records")
	// Output:
	// durable as record 2
	// true chain 4 records
}

// Deployed is an event type of an application's own.
type Deployed struct {
	Revision string `json:"revision"`
	Servers  uint32 `json:"servers"`
}

func ExampleTypeInfo() {
	types := append(events.Types(), audit.TypeInfo{Name: "shop.deployed", Class: audit.Critical, Data: Deployed{}, Actor: true})
	log, err := audit.Open(context.Background(), audit.Config{Disabled: true, Types: types})
	fmt.Println(log.Healthy(), err)
	// Output: <nil> <nil>
}

func ExampleVerify() {
	tmp, err := os.MkdirTemp("", "audit")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "log")
	log, err := audit.Open(context.Background(), audit.Config{Dir: dir, Service: "shop"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := log.Close(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.audit"))
	if err != nil || len(files) != 1 {
		fmt.Println(files, err)
		return
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	b[20] ^= 1 // one bit of the first record
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		fmt.Println(err)
		return
	}
	rep, err := audit.Verify(context.Background(), os.DirFS(dir), audit.VerifyOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range rep.Findings {
		fmt.Println(rep.OK, f.Kind, "line", f.Line, "offset", f.Offset, "seq", f.Seq)
	}
	// Output: false broken line 1 offset 0 seq 0
}

func ExampleParseRecord() {
	line := `{"actor":{"auth":"bearer_token","id":"token:9f86d0","kind":"token"},"at":"2026-01-02T03:04:05.000000007Z",` +
		`"cid":"req-1","class":"routine","data":{"task_id":"t-\\x1b1"},"emit":2,"flags":["escaped"],` +
		`"id":"00000000-0000-7000-8000-000000000003","out":"success",` +
		`"prev":"a17fd8214fc0d9323a4dc043bbc4322ca99a580ba4fe3d6f56d11f6b26ab6c4b","reason":"user","seq":1,` +
		`"svc":"demo","type":"task.canceled","v":1}`
	r, err := audit.ParseRecord([]byte(line))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d %s by %s\n%x\n", r.Seq, r.Event.Type, r.Event.Actor.ID, r.Hash)
	// Output:
	// 1 task.canceled by token:9f86d0
	// 9782cbf2f28d73c0536454657533260aa38c23801800d316673a5c899fe1ecc4
}

func ExampleUnescape() {
	s, err := audit.Unescape(`t-\x1b1`)
	fmt.Printf("%q %v\n", s, err)
	// Output: "t-\x1b1" <nil>
}
