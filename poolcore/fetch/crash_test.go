package fetch_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// realHub serves a hub on loopback.
func realHub(t testing.TB, h *hub) string {
	srv := httptest.NewUnstartedServer(h)
	h.cdn = srv.Listener.Addr().String()
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// realSources fetches from a hub on loopback.
func realSources(base string) fetch.Sources {
	return fetch.Sources{HF: fetch.HuggingFace(fetch.HuggingFaceConfig{BaseURL: base, Egress: fetch.Egress{
		Hosts: []string{"127.0.0.1"}, HTTPLoopback: true, Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback},
	}})}
}

// child is what the re-executed test binary does: one download, telling how far
// it is.
func child(t *testing.T) {
	root, err := os.OpenRoot(os.Getenv("LLORCH_TEST_DIR"))
	if err != nil {
		t.Fatal(err)
	}
	s := realSources(os.Getenv("LLORCH_TEST_HUB"))
	plan, err := s.Resolve(t.Context(), ref(t, modelRef), fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Download(t.Context(), plan, root, func(p fetch.Progress) { fmt.Println("done", p.BytesDone) })
	fmt.Println("ended", err)
}

func childCommand(test, dir, base string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), "LLORCH_TEST_DIR="+dir, "LLORCH_TEST_HUB="+base)
	return cmd
}

// TestKilled proves PCO-65 against kill -9: wherever a download is killed, the next
// one continues it, and not one byte that was written is sent again.
func TestKilled(t *testing.T) {
	if os.Getenv("LLORCH_TEST_DIR") != "" {
		child(t)
		return
	}
	const size = 8 << 20
	b := content(1, size)
	for _, eighths := range []int{1, 4, 7} {
		h := newHub(t, map[string][]byte{model: b})
		h.etag = `"a"`
		sent := make(chan struct{})
		h.fault = func(n int, _ string, rw http.ResponseWriter, r *http.Request) bool {
			if n == 1 { // a part, and then silence until the killing
				rw.Header().Set("ETag", `"a"`)
				rw.Header().Set("Content-Length", strconv.Itoa(size))
				rw.Write(b[:eighths*size/8])
				http.NewResponseController(rw).Flush()
				close(sent)
				<-r.Context().Done()
			}
			return n == 1
		}
		dir, base := t.TempDir(), realHub(t, h)
		cmd := childCommand("TestKilled", dir, base)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n, isDone := strings.CutPrefix(lines.Text(), "done ")
			if at, err := strconv.Atoi(n); isDone && err == nil && at > 0 {
				break
			}
		}
		<-sent
		cmd.Process.Kill()
		cmd.Wait()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		s := realSources(base)
		plan, err := s.Resolve(t.Context(), ref(t, modelRef), fetch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		fi, err := root.Stat(fetch.PartName(plan, plan.Files[0]) + fetch.PartSuffix)
		if err != nil || fi.Size() == 0 {
			t.Fatalf("nothing was written before the killing: %v", err)
		}
		before := h.bytes()
		got, err := s.Download(t.Context(), plan, root, nil)
		if err != nil || got[0].SHA256 != sum(b) || h.bytes()-before != size-fi.Size() {
			t.Errorf("%v %v: sent %d bytes, %d of %d lay there", got, err, h.bytes()-before, fi.Size(), size)
		}
		root.Close()
	}
}
