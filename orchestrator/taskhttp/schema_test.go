package taskhttp_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// schemas makes the schemas of wire types from their fields, tags and comments.
type schemas struct {
	out   object
	words map[string]string // Type or Type.Field → its comment
}

func newSchemas(t *testing.T) *schemas {
	t.Helper()
	s := &schemas{out: object{}, words: map[string]string{}}
	for _, dir := range []string{"../taskapi", "../placement"} {
		s.read(t, dir)
	}
	return s
}

// read gathers the comments of a package.
func (s *schemas) read(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != gotoken.TYPE {
				return true
			}
			for _, spec := range decl.Specs {
				typ := spec.(*ast.TypeSpec)
				if s.words[typ.Name.Name] = oneLine(typ.Doc); decl.Doc != nil {
					s.words[typ.Name.Name] = oneLine(decl.Doc)
				}
				if st, ok := typ.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						for _, name := range f.Names {
							s.words[typ.Name.Name+"."+name.Name] = oneLine(f.Comment)
						}
					}
				}
			}
			return true
		})
	}
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

// content is a body: a value of a wire type, or the name of a media type.
func (s *schemas) content(v any) object {
	if media, ok := v.(string); ok {
		return object{media: object{}}
	}
	return object{"application/json": object{"schema": s.ref(v)}}
}

func (s *schemas) ref(v any) object { return s.of(reflect.TypeOf(v), "") }

// enums are the members with a closed set of words.
func enums() map[string][]string {
	classes := []string{taskapi.PriorityInteractive, taskapi.PriorityBatch}
	states := []string{taskapi.ModelActive, taskapi.ModelRetired}
	return map[string][]string{
		"Task.status": taskapi.Statuses(), "Task.priority": classes, "Submit.priority": classes,
		"Submit.workload":      {taskapi.WorkloadCompletion, taskapi.WorkloadChat, taskapi.WorkloadEmbedding, taskapi.WorkloadRerank},
		"Submit.on_disconnect": {taskapi.DisconnectCancel, taskapi.DisconnectContinue}, "Submit.kv_hint": {"reuse", "cold"},
		"Submit.output_mode": {"text", "json"}, "Submit.determinism": {"strict", "best_effort"},
		"Placement.mode": {taskapi.ModeAuto, taskapi.ModePin, taskapi.ModePrefer}, "CatalogModel.state": states, "ModelState.state": states,
		"Artifact.kind": taskapi.ArtifactKinds(), "End.usage": {taskapi.UsageReported, taskapi.UsageEstimated},
	}
}

// of returns the schema of a type; at is the member that has it, Type.member.
func (s *schemas) of(typ reflect.Type, at string) object {
	switch typ {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return object{"type": "array", "items": object{"type": "object"}}
	case reflect.TypeFor[taskapi.Code]():
		return object{"type": "string", "enum": codes()}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return s.of(typ.Elem(), at)
	case reflect.Interface:
		if at == "Preview.explanation" || at == "DecisionList.decisions" {
			return s.ref(placement.Explanation{})
		}
		return object{}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(typ.Elem(), at)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(typ.Elem(), at)}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		if words := enums()[at]; words != nil {
			return object{"type": "string", "enum": words}
		}
		return object{"type": "string"}
	case reflect.Struct:
		s.object(typ)
		return object{"$ref": "#/components/schemas/" + typ.Name()}
	}
	return object{"type": "integer"}
}

func codes() []string {
	var out []string
	for _, c := range taskapi.Codes() {
		out = append(out, string(c))
	}
	slices.Sort(out)
	return out
}

// object makes the schema of a struct, once.
func (s *schemas) object(typ reflect.Type) {
	if s.out[typ.Name()] != nil {
		return
	}
	members, required := object{}, []string{}
	schema := object{"type": "object", "properties": members, "description": s.words[typ.Name()]}
	s.out[typ.Name()] = schema
	for f := range typ.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		m := s.of(f.Type, typ.Name()+"."+name)
		if text := s.words[typ.Name()+"."+f.Name]; text != "" {
			m["description"] = text
		}
		if members[name] = m; !strings.Contains(opts, "omit") {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		schema["required"] = required
	}
}
