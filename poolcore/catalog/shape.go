package catalog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

// Shape is what an estimate of memory needs to know of a model.
type Shape struct {
	Architecture  string
	Layers        int // that cache keys and values
	KVHeads       int // of one such layer, the most of all
	KeyLength     int // elements of one head's key
	ValueLength   int
	CtxMax        int   // tokens, 0 = unknown
	TensorBytes   int64 // of the weights, or of the files that hold them
	Known         bool  // all of the above but CtxMax are stated by the files
	OffloadLayers int   // layers that an engine can put on a GPU, with the output layer; 0 = unknown
}

// facts is what the files say for the index.
type facts struct {
	architecture, quant string
	ctx                 int
}

// inspect reads the headers of a model's files, which lie in in. It refuses files
// that are not what their names say.
func inspect(in *inputvalidation.Tree, m *Model) (Shape, facts, error) {
	if m.Format == formatGGUF {
		return inspectGGUF(in, m)
	}
	s := Shape{}
	for _, f := range m.Files {
		switch weightFormat(f.Path) {
		case formatSafetensors:
			if err := checkSafetensors(in, f); err != nil {
				return Shape{}, facts{}, err
			}
			s.TensorBytes += f.SizeBytes
		case formatPickle:
			s.TensorBytes += f.SizeBytes
		}
	}
	raw, err := in.ReadFile(relPath("config.json"), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return s, facts{}, nil
	}
	if err != nil {
		return Shape{}, facts{}, fmt.Errorf("read config.json: %w", err)
	}
	return configShape(raw, s)
}

func inspectGGUF(in *inputvalidation.Tree, m *Model) (Shape, facts, error) {
	entry := m.entryFile()
	if entry == "" {
		return Shape{}, facts{}, refuse(ModelIncompatible, "the first part of the split is missing")
	}
	h, err := headerOf(in, entry)
	if err != nil {
		return Shape{}, facts{}, err
	}
	parts := splitNames(entry)
	if h.SplitCount > 1 && h.SplitCount != len(parts) {
		return Shape{}, facts{}, refuse(ModelIncompatible, "the file is one of %d parts, there are %d", h.SplitCount, len(parts))
	}
	weights := h.TensorBytes
	for _, name := range parts[1:] {
		part, err := headerOf(in, name)
		if err != nil {
			return Shape{}, facts{}, err
		}
		weights += part.TensorBytes // each is within its file, so the sum is within the disk
	}
	s := Shape{
		Architecture: h.Architecture, Layers: h.KVLayers, KVHeads: h.KVHeads, KeyLength: h.KeyLength,
		ValueLength: h.ValueLength, CtxMax: h.CtxMax, TensorBytes: weights,
	}
	s.Known = s.stated()
	if h.Blocks > 0 {
		s.OffloadLayers = h.Blocks + 1
	}
	return s, facts{h.Architecture, h.Quant, h.CtxMax}, nil
}

func (s *Shape) stated() bool {
	return s.Architecture != "" && s.Layers > 0 && s.KVHeads > 0 && s.KeyLength > 0 && s.ValueLength > 0 && s.TensorBytes > 0
}

func headerOf(in *inputvalidation.Tree, name string) (Header, error) {
	p, err := inputvalidation.ParseRelPath("path", name)
	if err != nil {
		return Header{}, err
	}
	f, fi, err := in.Open(p)
	if err != nil {
		return Header{}, fmt.Errorf("open model file: %w", err)
	}
	defer f.Close()
	h, err := ReadGGUF(f, fi.Size())
	if err != nil {
		return Header{}, because(ModelIncompatible, err, "the GGUF header is refused: "+err.Error())
	}
	return h, nil
}

// checkSafetensors makes sure that a file begins as one: the length of a JSON
// object, and that object.
func checkSafetensors(in *inputvalidation.Tree, f File) error {
	p, err := inputvalidation.ParseRelPath("path", f.Path)
	if err != nil {
		return err
	}
	file, _, err := in.Open(p)
	if err != nil {
		return fmt.Errorf("open model file: %w", err)
	}
	defer file.Close()
	var head [9]byte
	if _, err := io.ReadFull(file, head[:]); err != nil {
		return refuse(ModelIncompatible, "a safetensors file is too short")
	}
	n := binary.LittleEndian.Uint64(head[:8])
	if n > uint64(max(f.SizeBytes-8, 0)) || n > 100<<20 || head[8] != '{' {
		return refuse(ModelIncompatible, "a safetensors file has no header")
	}
	return nil
}

const maxConfig = 1 << 20

// modelConfig is what config.json says of a transformer's size; a model with
// several parts has the text's inside.
type modelConfig struct {
	ModelType    string       `json:"model_type"`
	Layers       int          `json:"num_hidden_layers"`
	Heads        int          `json:"num_attention_heads"`
	KVHeads      int          `json:"num_key_value_heads"`
	Hidden       int          `json:"hidden_size"`
	HeadDim      int          `json:"head_dim"`
	Ctx          int          `json:"max_position_embeddings"`
	DType        string       `json:"torch_dtype"`
	NewDType     string       `json:"dtype"`
	Text         *modelConfig `json:"text_config"`
	Quantisation struct {
		Method string `json:"quant_method"`
	} `json:"quantization_config"`
}

// configShape adds what config.json says to s.
func configShape(raw []byte, s Shape) (Shape, facts, error) {
	if err := inputvalidation.CheckJSON("config.json", raw, maxConfig); err != nil {
		return Shape{}, facts{}, because(ModelIncompatible, err, "config.json is no JSON")
	}
	var c modelConfig
	if json.Unmarshal(raw, &c) != nil {
		return s, facts{}, nil // members of other types say nothing to us
	}
	outer := c
	if c.Text != nil && c.Layers == 0 {
		c = *c.Text
	}
	bounded := func(v, most int) int {
		if v < 0 || v > most {
			return 0
		}
		return v
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	s.Layers, s.KVHeads = bounded(c.Layers, mostLayers), bounded(c.KVHeads, mostHeads)
	s.KeyLength = bounded(c.HeadDim, mostLength)
	s.ValueLength, s.CtxMax = s.KeyLength, bounded(c.Ctx, min(mostCtx, math.MaxInt32))
	what := facts{architecture: word(outer.ModelType), ctx: s.CtxMax}
	for _, q := range []string{outer.Quantisation.Method, outer.DType, outer.NewDType, c.DType, c.NewDType} {
		if what.quant = word(strings.TrimPrefix(q, "torch.")); what.quant != "" {
			break
		}
	}
	s.Architecture = what.architecture
	s.Known = s.stated()
	if s.Layers > 0 {
		s.OffloadLayers = s.Layers + 1
	}
	return s, what, nil
}

// word returns s if it is an identifier, "" else.
func word(s string) string {
	if inputvalidation.CheckIdentifier("word", s, inputvalidation.IdentRules{Max: 64, Extra: "._-"}) != nil {
		return ""
	}
	return s
}
