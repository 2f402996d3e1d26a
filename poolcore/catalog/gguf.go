package catalog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

// Bounds of a GGUF header.
const (
	maxHeader   = 64 << 20 // bytes
	maxEntries  = 1 << 20  // members, tensors, elements of an array
	maxNesting  = 4        // arrays in arrays
	maxKey      = 1<<16 - 1
	maxValue    = 1 << 10 // bytes of a text that is looked at
	maxDims     = 8
	maxScalars  = 512 // members that are kept
	ggufMagic   = "GGUF"
	ggufAlign   = 32
	oldestGGUF  = 2
	newestGGUF  = 3
	fieldGGUF   = "gguf"
	fieldMember = "gguf.metadata"
	fieldTensor = "gguf.tensor"
)

// The types of values.
const (
	typeBool   = 7
	typeString = 8
	typeArray  = 9
)

// Header is what the header of a GGUF file says of its model. What the file does
// not say is 0 or "".
type Header struct {
	Version      int
	Architecture string // 1..64 of A-Z a-z 0-9 . _ -
	Quant        string // such as "Q4_K_M"
	Blocks       int    // layers, whether they cache keys or not
	Heads        int    // of attention, the most of all layers
	KVHeads      int    // the most of all layers; Heads if the file does not say
	KVLayers     int    // layers that have KV heads
	KeyLength    int    // of one head; Embedding / Heads if the file does not say
	ValueLength  int
	Embedding    int
	CtxMax       int // tokens
	Tensors      int
	TensorBytes  int64 // of the tensors in this file
	SplitCount   int   // parts of the model, 0 = not split
}

// ReadGGUF reads the header of a file of size bytes, GGUF version 2 or 3. Every
// length is bounded by size; it reads at most 64 MiB and keeps a few KiB. What it
// refuses is an inputvalidation.Error with the offset in the file.
func ReadGGUF(r io.ReaderAt, size int64) (Header, error) {
	p := &ggufReader{
		r:       bufio.NewReaderSize(io.NewSectionReader(r, 0, min(size, maxHeader)), 1<<16),
		limit:   min(size, maxHeader),
		numbers: map[string]numbers{},
	}
	h := p.header(size)
	if p.err != nil {
		return Header{}, p.err
	}
	return h, nil
}

// numbers is a member that is a number, or an array of numbers.
type numbers struct {
	most    uint64
	list    bool
	nonzero int // elements of a list that are not 0
}

// ggufReader reads on until its first error, which stays.
type ggufReader struct {
	r         *bufio.Reader
	at, limit int64
	err       error

	numbers map[string]numbers
	arch    string
}

func (p *ggufReader) fail(field string, rule inputvalidation.Rule) {
	if p.err == nil {
		p.err = &inputvalidation.Error{Field: field, Rule: rule, Offset: int(p.at), Limit: -1, Actual: -1}
	}
}

func (p *ggufReader) header(size int64) Header {
	if magic := p.text(int64(len(ggufMagic))); magic != ggufMagic {
		p.fail(fieldGGUF, inputvalidation.RuleSyntax)
	}
	version := p.number(4)
	if version < oldestGGUF || version > newestGGUF { // a big-endian file has a number out of range, too
		p.fail(fieldGGUF, inputvalidation.RuleRange)
	}
	tensors, members := p.number(8), p.number(8)
	if tensors > maxEntries || members > maxEntries {
		p.fail(fieldGGUF, inputvalidation.RuleTooLong)
	}
	for range members {
		if p.err != nil {
			return Header{}
		}
		p.member()
	}
	h := p.fill(Header{Version: int(version), Tensors: int(tensors)})
	h.TensorBytes = p.tensors(tensors, size)
	return h
}

// member reads one key with its value and keeps what fill asks for.
func (p *ggufReader) member() {
	n := p.number(8)
	if n == 0 || n > maxKey {
		p.fail(fieldMember, inputvalidation.RuleTooLong)
	}
	key := p.text(int64(n))
	kind := uint32(p.number(4))
	if key == "general.architecture" && kind == typeString {
		p.arch = p.word()
		return
	}
	v, ok := p.value(kind, 0)
	if ok && keeps(key) && len(p.numbers) < maxScalars {
		if _, twice := p.numbers[key]; twice {
			p.fail(fieldMember, inputvalidation.RuleDuplicate)
		}
		p.numbers[key] = v
	}
}

// keeps reports whether a member says something about the model's size.
func keeps(key string) bool {
	for _, end := range [...]string{
		".block_count", ".context_length", ".embedding_length", ".attention.head_count", ".attention.head_count_kv",
		".attention.key_length", ".attention.value_length", "general.file_type", "general.alignment", "split.count",
	} {
		if strings.HasSuffix(key, end) {
			return true
		}
	}
	return false
}

// word reads a text that becomes an identifier.
func (p *ggufReader) word() string {
	n := p.number(8)
	if n > maxValue {
		p.fail(fieldMember, inputvalidation.RuleTooLong)
	}
	w := p.text(int64(n))
	if p.err == nil && inputvalidation.CheckIdentifier(fieldMember, w, inputvalidation.IdentRules{Max: 64, Extra: "._-"}) != nil {
		p.fail(fieldMember, inputvalidation.RuleCharset)
	}
	return w
}

// value reads a value and returns it if it is made of whole numbers.
func (p *ggufReader) value(kind uint32, depth int) (numbers, bool) {
	switch width := scalarWidth(kind); {
	case width > 0:
		v := p.number(width)
		whole := kind <= 5 || kind == 10 || kind == 11
		return numbers{most: v}, whole
	case kind == typeString:
		p.skip(p.number(8))
		return numbers{}, false
	case kind == typeArray:
		return p.array(depth + 1)
	}
	p.fail(fieldMember, inputvalidation.RuleRange)
	return numbers{}, false
}

func (p *ggufReader) array(depth int) (all numbers, whole bool) {
	if depth > maxNesting {
		p.fail(fieldMember, inputvalidation.RuleDepth)
		return numbers{}, false
	}
	kind, n := uint32(p.number(4)), p.number(8)
	if n > maxEntries {
		p.fail(fieldMember, inputvalidation.RuleTooLong)
	}
	all.list, whole = true, true
	for range n {
		if p.err != nil {
			return numbers{}, false
		}
		v, ok := p.value(kind, depth)
		all.most, whole = max(all.most, v.most), whole && ok
		if v.most > 0 {
			all.nonzero++
		}
	}
	return all, whole && n > 0
}

// scalarWidth returns the bytes of a scalar type, 0 for another.
func scalarWidth(kind uint32) int {
	switch kind {
	case 0, 1, typeBool:
		return 1
	case 2, 3:
		return 2
	case 4, 5, 6:
		return 4
	case 10, 11, 12:
		return 8
	}
	return 0
}

// tensors reads the table and returns how many bytes the tensors have.
func (p *ggufReader) tensors(n uint64, size int64) int64 {
	var total, end int64
	known := true
	for range n {
		if p.err != nil {
			return 0
		}
		bytes, offset, ok := p.tensor()
		if ok && (offset > size || bytes > size-offset) {
			p.fail(fieldTensor, inputvalidation.RuleRange)
		}
		if offset > size {
			p.fail(fieldTensor, inputvalidation.RuleRange)
		}
		known = known && ok
		end = max(end, offset+bytes)
		total += min(bytes, size)
		if total > size {
			p.fail(fieldTensor, inputvalidation.RuleRange)
		}
	}
	align := int64(ggufAlign)
	if a, ok := p.numbers["general.alignment"]; ok {
		if a.most == 0 || a.most > 1<<16 || a.most&(a.most-1) != 0 {
			p.fail(fieldMember, inputvalidation.RuleRange)
			return 0
		}
		align = int64(a.most)
	}
	data := (p.at + align - 1) / align * align
	if n > 0 && end > max(size-data, 0) { // the file is cut
		p.fail(fieldTensor, inputvalidation.RuleRange)
	}
	if !known {
		return max(size-data, 0)
	}
	return total
}

// tensor reads one row: how long it is, if its type is known, and where it begins
// behind the header.
func (p *ggufReader) tensor() (bytes, offset int64, known bool) {
	p.skip(p.number(8))
	dims := p.number(4)
	if dims > maxDims {
		p.fail(fieldTensor, inputvalidation.RuleRange)
		return 0, 0, false
	}
	elements := uint64(1)
	for range dims {
		d := p.number(8)
		if d != 0 && elements > math.MaxInt64/d {
			p.fail(fieldTensor, inputvalidation.RuleRange)
			return 0, 0, false
		}
		elements *= d
	}
	kind, at := uint32(p.number(4)), p.number(8)
	if at > math.MaxInt64/2 || elements > math.MaxInt64/16 {
		p.fail(fieldTensor, inputvalidation.RuleRange)
		return 0, 0, false
	}
	t, known := ggmlType(kind)
	if !known {
		return 0, int64(at), false
	}
	blocks := (int64(elements) + t.elements - 1) / t.elements
	if blocks > math.MaxInt64/2/t.bytes {
		p.fail(fieldTensor, inputvalidation.RuleRange)
		return 0, 0, false
	}
	return blocks * t.bytes, int64(at), true
}

// number reads a little-endian number of 1, 2, 4 or 8 bytes.
func (p *ggufReader) number(width int) uint64 {
	var b [8]byte
	p.read(b[:width])
	return binary.LittleEndian.Uint64(b[:])
}

// text reads n bytes, which the caller has bounded.
func (p *ggufReader) text(n int64) string {
	if p.err != nil || n > p.limit-p.at {
		p.fail(fieldGGUF, inputvalidation.RuleTooLong)
		return ""
	}
	b := make([]byte, n)
	p.read(b)
	return string(b)
}

func (p *ggufReader) read(b []byte) {
	if p.err != nil {
		clear(b)
		return
	}
	n, err := io.ReadFull(p.r, b)
	p.at += int64(n)
	p.note(err)
	if err != nil {
		clear(b)
	}
}

// skip passes over n bytes.
func (p *ggufReader) skip(n uint64) {
	if p.err != nil {
		return
	}
	if n > uint64(p.limit-p.at) {
		p.fail(fieldGGUF, inputvalidation.RuleTooLong)
		return
	}
	done, err := p.r.Discard(int(n))
	p.at += int64(done)
	p.note(err)
}

// note keeps an error of the reader; the end of the file is a header too long.
func (p *ggufReader) note(err error) {
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		p.fail(fieldGGUF, inputvalidation.RuleTooLong)
	case p.err == nil:
		p.err = err
	}
}

// Bounds of what a model says of itself, so that no product of them overflows.
const (
	mostLayers = 1 << 14
	mostHeads  = 1 << 14
	mostLength = 1 << 20
	mostCtx    = 1 << 30
)

// fill takes what the members say of the model's architecture.
func (p *ggufReader) fill(h Header) Header {
	get := func(key string, most uint64) int {
		v := p.numbers[p.arch+"."+key].most
		if v > most {
			p.fail(fieldMember, inputvalidation.RuleRange)
		}
		return int(min(v, most))
	}
	h.Architecture = p.arch
	if t, ok := p.numbers["general.file_type"]; ok {
		h.Quant = quantName(t.most)
	}
	h.SplitCount = int(min(p.numbers["split.count"].most, math.MaxInt32))
	h.Blocks = get("block_count", mostLayers)
	h.Embedding = get("embedding_length", mostLength)
	h.CtxMax = get("context_length", mostCtx)
	h.Heads = get("attention.head_count", mostHeads)
	h.KVHeads, h.KVLayers = h.Heads, h.Blocks
	if kv, ok := p.numbers[p.arch+".attention.head_count_kv"]; ok {
		h.KVHeads = get("attention.head_count_kv", mostHeads)
		if kv.list { // one number for each layer
			h.KVLayers = min(kv.nonzero, h.Blocks)
		}
	}
	h.KeyLength = get("attention.key_length", mostLength)
	h.ValueLength = get("attention.value_length", mostLength)
	if h.Heads > 0 && h.KeyLength == 0 {
		h.KeyLength = h.Embedding / h.Heads
	}
	if h.Heads > 0 && h.ValueLength == 0 {
		h.ValueLength = h.Embedding / h.Heads
	}
	return h
}
