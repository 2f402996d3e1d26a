package fetch

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

const (
	maxPage  = 8 << 20 // bytes of one answer of the hub
	maxPages = 100
)

// HuggingFaceConfig configures [HuggingFace].
type HuggingFaceConfig struct {
	BaseURL string        // of the hub or its mirror, without a slash at the end; "" = https://huggingface.co
	Token   func() string // asked for each request; nil or "" = none; sent to the hub's own host only
	Egress  Egress        // must hold the hub's host and those that deliver its files
}

// HuggingFace returns a source for references of scheme hf. The revision (main
// if there is none) is resolved to a commit once, and only that commit is used.
//
// A reference with a file takes that file, or all parts of a split GGUF; one
// with a variant takes the one GGUF of that quantisation; one without either
// takes *.safetensors *.json tokenizer* *.model *.txt of the top folder.
func HuggingFace(cfg HuggingFaceConfig) Source {
	if cfg.BaseURL == "" {
		cfg.BaseURL = "https://huggingface.co"
	}
	if cfg.Token == nil {
		cfg.Token = func() string { return "" }
	}
	return &hub{cfg.BaseURL, cfg.Token, newClient(cfg.Egress)}
}

type hub struct {
	base   string
	token  func() string
	client *client
}

// Resolve asks for the commit and the list of its files.
func (h *hub) Resolve(ctx context.Context, ref inputvalidation.ModelRef, _ Options) (Plan, error) {
	repo := ref.Owner() + "/" + ref.Repo()
	var info struct {
		SHA string `json:"sha"`
	}
	revision := cmp.Or(ref.Revision(), "main")
	if _, err := h.ask(ctx, h.base+"/api/models/"+repo+"/revision/"+url.PathEscape(revision), &info); err != nil {
		return Plan{}, err
	}
	if !isHex(info.SHA, 20) {
		return Plan{}, invalid("the hub does not name the commit")
	}
	if isHex(revision, 20) && info.SHA != revision {
		return Plan{}, invalid("the hub answers with another commit than the one asked for")
	}
	entries, err := h.tree(ctx, repo, info.SHA)
	if err != nil {
		return Plan{}, err
	}
	chosen, err := choose(ref, entries)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Repo: repo, Revision: info.SHA, URL: h.base + "/" + repo}
	for _, e := range chosen {
		f := e.file()
		f.URL = h.base + "/" + repo + "/resolve/" + info.SHA + "/" + escapePath(e.Path)
		if !f.identified() {
			return Plan{}, invalid("the hub does not say what a file must hash to")
		}
		plan.Files = append(plan.Files, f)
	}
	slices.SortFunc(plan.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return plan, nil
}

func invalid(hint string) error { return &Error{Code: SourceInvalid, Hint: hint} }

// ask gets one JSON answer and returns the address of the next page, if any.
func (h *hub) ask(ctx context.Context, address string, into any) (next string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*stallAfter, &Error{Code: Stalled, Retriable: true, Hint: "the hub did not answer in time"})
	defer cancel()
	r, _, err := h.client.get(ctx, http.MethodGet, address, h.token(), nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return "", statusError(r)
	}
	data, err := readAll(ctx, r, maxPage)
	if err != nil {
		return "", err
	}
	if inputvalidation.CheckJSON("answer", data, maxPage) != nil || json.Unmarshal(data, into) != nil {
		return "", invalid("the hub's answer can not be read")
	}
	return nextPage(r.Header.Values("Link")), nil
}

// entry is one line of the hub's list of files.
type entry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	OID  string `json:"oid"` // of the git blob
	LFS  *struct {
		OID  string `json:"oid"` // SHA-256
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// file returns what is expected of the content: of large files the SHA-256, of
// small ones the id of the git blob.
func (e entry) file() File {
	if e.LFS != nil {
		return File{Path: e.Path, Size: e.LFS.Size, SHA256: e.LFS.OID, ETag: e.LFS.OID}
	}
	return File{Path: e.Path, Size: e.Size, GitSHA1: e.OID, ETag: e.OID}
}

// tree lists the files of a commit over all pages.
func (h *hub) tree(ctx context.Context, repo, commit string) ([]entry, error) {
	start := h.base + "/api/models/" + repo + "/tree/" + commit
	address := start + "?recursive=true"
	var all []entry
	for range maxPages {
		var page []entry
		next, err := h.ask(ctx, address, &page)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if e.Type == "file" {
				all = append(all, e)
			}
		}
		if next == "" {
			return all, nil
		}
		if !strings.HasPrefix(next, start+"?") { // the token must not go anywhere else
			return nil, invalid("the hub's next page is at another place")
		}
		address = next
	}
	return nil, invalid("the hub lists more than 100 pages")
}

// nextPage returns the address that a Link header calls next, "" if none.
func nextPage(links []string) string {
	for _, line := range links {
		if len(line) > maxURL {
			continue
		}
		for link := range strings.SplitSeq(line, ",") {
			target, params, _ := strings.Cut(link, ">")
			address, opened := strings.CutPrefix(strings.TrimSpace(target), "<")
			if opened && (strings.Contains(params, `rel="next"`) || strings.Contains(params, "rel=next")) {
				return address
			}
		}
	}
	return ""
}

// choose returns the entries that the reference stands for.
func choose(ref inputvalidation.ModelRef, all []entry) ([]entry, error) {
	var paths []string
	var err error
	switch {
	case ref.Path() != "":
		paths = SplitParts(ref.Path())
	case ref.Variant() != "":
		paths, err = quantised(all, ref.Variant())
	default:
		paths, err = whole(all)
	}
	byPath := make(map[string]entry, len(all))
	for _, e := range all {
		byPath[e.Path] = e
	}
	var chosen []entry
	for _, p := range paths {
		e, ok := byPath[p]
		if !ok {
			return nil, &Error{Code: EntryNotFound, File: p, Hint: "the repository has no such file at this revision"}
		}
		chosen = append(chosen, e)
	}
	return chosen, err
}

// whole returns the files of a repository that is named without one.
func whole(all []entry) (paths []string, err error) {
	err = &Error{Code: EntryNotFound, Hint: "the repository has no safetensors at its top: name a file with ::file="}
	for _, e := range all {
		if !InRepository(e.Path) {
			continue
		}
		paths = append(paths, e.Path)
		if path.Ext(e.Path) == ".safetensors" {
			err = nil
		}
	}
	return paths, err
}

// quantised returns the files of the one GGUF model of a variant.
func quantised(all []entry, variant string) ([]string, error) {
	models := map[string]bool{} // by the first file
	var paths []string
	for _, e := range all {
		if hasVariant(e.Path, variant) {
			paths = SplitParts(e.Path)
			models[paths[0]] = true
		}
	}
	switch len(models) {
	case 0:
		return nil, &Error{Code: EntryNotFound, Hint: "the repository has no GGUF file of this variant"}
	case 1:
		return paths, nil
	}
	return nil, &Error{Code: EntryNotFound, Hint: "several files are of this variant: name one with ::file="}
}

// escapePath writes a path for a URL.
func escapePath(p string) string { return (&url.URL{Path: p}).EscapedPath() }

// Open asks the hub for the file, which sends it itself or names a delivery host.
func (h *hub) Open(ctx context.Context, f File, from int64, tag string) (*Body, error) {
	b, first, err := h.client.open(ctx, f.URL, h.token(), from, tag)
	if err != nil {
		return nil, err
	}
	commit, etag, length := first.Get("X-Repo-Commit"), bareTag(first.Get("X-Linked-Etag")), first.Get("X-Linked-Size")
	if commit != "" && !strings.Contains(f.URL, "/resolve/"+commit+"/") ||
		etag != "" && etag != f.ETag || length != "" && length != strconv.FormatInt(f.Size, 10) {
		_ = b.Close() // these are other bytes
		return nil, &Error{Code: Changed, Retriable: true, Hint: "the hub has another content than it listed"}
	}
	return b, nil
}
