package catalog

import (
	"bufio"
	"cmp"
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
	maxLooked   = 128 // bytes of a key or word that is looked at; all that count are shorter
	maxDims     = 8
	maxElements = math.MaxInt64 / 16 // of a tensor; none of them has more than 8 bytes
	maxNumbers  = 512                // members that are kept
	ggufAlign   = 32
	fieldGGUF   = "gguf"
	fieldMember = "gguf.metadata"
	fieldTensor = "gguf.tensor"
)

// The types of values that have no fixed width.
const (
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
	limit := min(size, maxHeader)
	p := &ggufReader{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, limit), 1<<16), limit: limit, numbers: map[string]numbers{}}
	h := p.header(size)
	if p.err != nil {
		return Header{}, p.err
	}
	return h, nil
}

// numbers is a member that is a whole number, or an array of them.
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

// require notes an error unless something is as it has to be.
func (p *ggufReader) require(ok bool, field string, rule inputvalidation.Rule) {
	if !ok && p.err == nil {
		p.err = &inputvalidation.Error{Field: field, Rule: rule, Offset: int(p.at), Limit: -1, Actual: -1}
	}
}

func (p *ggufReader) header(size int64) Header {
	p.require(string(p.take(4)) == "GGUF", fieldGGUF, inputvalidation.RuleSyntax)
	version := p.number(4) // in a big-endian file it is out of range, too
	p.require(version == 2 || version == 3, fieldGGUF, inputvalidation.RuleRange)
	tensors, members := p.number(8), p.number(8)
	p.require(tensors <= maxEntries && members <= maxEntries, fieldGGUF, inputvalidation.RuleTooLong)
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
	p.require(n > 0 && n <= maxKey, fieldMember, inputvalidation.RuleTooLong)
	key := string(p.take(n))
	kind := uint32(p.number(4))
	if key == "general.architecture" && kind == typeString {
		p.arch = string(p.take(p.number(8)))
		bad := inputvalidation.CheckIdentifier(fieldMember, p.arch, inputvalidation.IdentRules{Max: 64, Extra: "._-"})
		p.require(bad == nil, fieldMember, inputvalidation.RuleCharset)
		return
	}
	v, whole := p.value(kind, 0)
	if whole && keeps(key) && len(p.numbers) < maxNumbers {
		_, twice := p.numbers[key]
		p.require(!twice, fieldMember, inputvalidation.RuleDuplicate)
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

// value reads a value and returns it if it is made of whole numbers.
func (p *ggufReader) value(kind uint32, depth int) (v numbers, whole bool) {
	width, whole := scalar(kind)
	switch {
	case width > 0:
		return numbers{most: p.number(width)}, whole
	case kind == typeString:
		p.take(p.number(8))
	case kind == typeArray:
		return p.array(depth + 1)
	default:
		p.require(false, fieldMember, inputvalidation.RuleRange)
	}
	return numbers{}, false
}

func (p *ggufReader) array(depth int) (all numbers, whole bool) {
	p.require(depth <= maxNesting, fieldMember, inputvalidation.RuleDepth)
	kind, n := uint32(p.number(4)), p.number(8)
	p.require(n <= maxEntries, fieldMember, inputvalidation.RuleTooLong)
	all.list, whole = true, n > 0
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
	return all, whole
}

// scalar returns the bytes of a type of fixed width, 0 for another, and whether it
// is a whole number.
func scalar(kind uint32) (width uint64, whole bool) {
	widths := [...]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
	if kind >= uint32(len(widths)) {
		return 0, false
	}
	return widths[kind], kind != 6 && kind != 7 && kind != 12 // float32, bool, float64
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
		p.require(offset <= size && bytes <= size-offset && bytes <= size-total, fieldTensor, inputvalidation.RuleRange)
		known, total, end = known && ok, total+bytes, max(end, offset+bytes)
	}
	align := int64(ggufAlign)
	if a, ok := p.numbers["general.alignment"]; ok {
		p.require(a.most > 0 && a.most <= 1<<16 && a.most&(a.most-1) == 0, fieldMember, inputvalidation.RuleRange)
		align = max(1, int64(min(a.most, 1<<16)))
	}
	data := max(0, size-(p.at+align-1)/align*align)
	p.require(n == 0 || end <= data, fieldTensor, inputvalidation.RuleRange) // else the file is cut
	if !known {
		return data
	}
	return total
}

// tensor reads one row: how long it is, if its type is known, and where it begins
// behind the header.
func (p *ggufReader) tensor() (bytes, offset int64, known bool) {
	p.take(p.number(8))
	dims, elements := p.number(4), uint64(1)
	p.require(dims <= maxDims, fieldTensor, inputvalidation.RuleRange)
	for range min(dims, maxDims) {
		d := p.number(8)
		p.require(d == 0 || elements <= maxElements/d, fieldTensor, inputvalidation.RuleRange)
		elements *= d
	}
	kind, at := uint32(p.number(4)), p.number(8)
	p.require(at <= math.MaxInt64/2, fieldTensor, inputvalidation.RuleRange)
	t, known := ggmlType(kind)
	if p.err != nil || !known {
		return 0, int64(min(at, math.MaxInt64/2)), false
	}
	return (int64(elements) + t.elements - 1) / t.elements * t.bytes, int64(at), true
}

// number reads a little-endian number of at most 8 bytes.
func (p *ggufReader) number(width uint64) uint64 {
	var b [8]byte
	copy(b[:], p.take(width))
	return binary.LittleEndian.Uint64(b[:])
}

// take passes over n bytes and returns them, unless they are more than anybody
// looks at, until the next call.
func (p *ggufReader) take(n uint64) (b []byte) {
	p.require(n <= uint64(p.limit-p.at), fieldGGUF, inputvalidation.RuleTooLong)
	if p.err != nil {
		return nil
	}
	if n <= maxLooked {
		b, _ = p.r.Peek(int(n)) // Discard finds the same error
	}
	done, err := p.r.Discard(int(n))
	p.at += int64(done)
	p.require(!errors.Is(err, io.EOF), fieldGGUF, inputvalidation.RuleTooLong)
	if err == nil {
		return b
	}
	if p.err == nil {
		p.err = err
	}
	return nil
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
		p.require(v <= most, fieldMember, inputvalidation.RuleRange)
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
	each := 0 // elements of a head, where the file does not say
	if h.Heads > 0 {
		each = h.Embedding / h.Heads
	}
	h.KeyLength = cmp.Or(get("attention.key_length", mostLength), each)
	h.ValueLength = cmp.Or(get("attention.value_length", mostLength), each)
	return h
}
