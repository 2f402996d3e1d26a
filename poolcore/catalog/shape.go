package catalog

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
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

// inspect reads the headers of a model's files, which lie in dir, and returns its
// shape and quantisation. It refuses files that are not what their names say.
func (c *Catalog) inspect(dir string, m *Model) (s Shape, quant string, err error) {
	if m.Format == formatGGUF {
		return c.inspectGGUF(dir, m)
	}
	for _, f := range m.Files {
		format := weightFormat(f.Path)
		if format == formatSafetensors {
			if err := c.checkSafetensors(dir + "/" + f.Path); err != nil {
				return Shape{}, "", err
			}
		}
		if format != "" {
			s.TensorBytes += f.SizeBytes
		}
	}
	raw, err := c.tree.ReadFile(relPath(dir+"/config.json"), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return s, "", nil
	}
	if err != nil {
		return Shape{}, "", fmt.Errorf("read config.json: %w", err)
	}
	return configShape(raw, s)
}

func (c *Catalog) inspectGGUF(dir string, m *Model) (Shape, string, error) {
	entry := m.entryFile()
	if entry == "" {
		return Shape{}, "", refuse(ModelIncompatible, "the first part of the split is missing")
	}
	h, err := c.headerOf(dir + "/" + entry)
	if err != nil {
		return Shape{}, "", err
	}
	parts := fetch.SplitParts(entry)
	if h.SplitCount > 1 && h.SplitCount != len(parts) {
		return Shape{}, "", refuse(ModelIncompatible, "the file is one of %d parts, there are %d", h.SplitCount, len(parts))
	}
	for _, name := range parts[1:] {
		part, err := c.headerOf(dir + "/" + name)
		if err != nil {
			return Shape{}, "", err
		}
		h.TensorBytes += part.TensorBytes // each is within its file, so the sum is within the disk
	}
	s := Shape{
		Architecture: h.Architecture, Layers: h.KVLayers, KVHeads: h.KVHeads, KeyLength: h.KeyLength,
		ValueLength: h.ValueLength, CtxMax: h.CtxMax, TensorBytes: h.TensorBytes,
	}
	return s.complete(h.Blocks), h.Quant, nil
}

// complete adds what follows from the rest, and from the number of blocks.
func (s Shape) complete(blocks int) Shape {
	s.Known = s.Architecture != "" && s.Layers > 0 && s.KVHeads > 0 && s.KeyLength > 0 && s.ValueLength > 0 && s.TensorBytes > 0
	if blocks > 0 {
		s.OffloadLayers = blocks + 1
	}
	return s
}

func (c *Catalog) headerOf(name string) (Header, error) {
	f, fi, err := c.openFile(name)
	if err != nil {
		return Header{}, err
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
func (c *Catalog) checkSafetensors(name string) error {
	f, fi, err := c.openFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var head [9]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return refuse(ModelIncompatible, "a safetensors file is too short")
	}
	n := binary.LittleEndian.Uint64(head[:8])
	if n > uint64(fi.Size()-8) || n > 100<<20 || head[8] != '{' {
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

// configShape adds what config.json says to s, and returns the quantisation.
func configShape(raw []byte, s Shape) (Shape, string, error) {
	if err := inputvalidation.CheckJSON("config.json", raw, maxConfig); err != nil {
		return Shape{}, "", because(ModelIncompatible, err, "config.json is no JSON")
	}
	var outer modelConfig
	if json.Unmarshal(raw, &outer) != nil {
		return s, "", nil // members of other types say nothing to us
	}
	c := outer
	if c.Text != nil && c.Layers == 0 {
		c = *c.Text
	}
	c.KVHeads = cmp.Or(c.KVHeads, c.Heads)
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	s.Architecture = word(outer.ModelType)
	s.Layers, s.KVHeads = bounded(c.Layers, mostLayers), bounded(c.KVHeads, mostHeads)
	s.KeyLength, s.CtxMax = bounded(c.HeadDim, mostLength), bounded(c.Ctx, mostCtx)
	s.ValueLength = s.KeyLength
	dtype := cmp.Or(outer.DType, outer.NewDType, c.DType, c.NewDType)
	quant := cmp.Or(outer.Quantisation.Method, strings.TrimPrefix(dtype, "torch."))
	return s.complete(s.Layers), word(quant), nil
}

// bounded returns v, or 0 if it is out of bounds.
func bounded(v, most int) int {
	if v < 0 || v > most {
		return 0
	}
	return v
}

// word returns s if it is an identifier, "" else.
func word(s string) string {
	if inputvalidation.CheckIdentifier("word", s, inputvalidation.IdentRules{Max: 64, Extra: "._-"}) != nil {
		return ""
	}
	return s
}
