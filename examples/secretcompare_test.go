package examples_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"testing"
)

// home is a function that may compare secrets.
type home struct {
	times int // exactly so many comparisons
	why   string
	fixed bool // by package subtle, over digests of one length
}

// compareHomes are all such functions. Those of level 0 to 2 may not import authmin.
func compareHomes() map[string]home {
	const leaf = "secrets are no tokens, and a leaf imports no leaf"
	return map[string]home{
		"authmin/token.go: equalDigest":                      {1, "the home", true},
		"authmin/keyset.go: scan":                            {1, "selects by the home's result, without a branch", false},
		"authmin/keyset.go: Verify":                          {1, "selects by the home's result, without a branch", false},
		"authmin/bearer.go: ParseBearer":                     {1, "the scheme's public name", false},
		"secrets/secret.go: Equal":                           {1, leaf, true},
		"secrets/mac.go: VerifyMAC":                          {1, leaf, true},
		"poolregistry/register.go: register":                 {1, "lease tokens, at level 1", true},
		"poolregistry/beat.go: checkLease":                   {2, "lease tokens, at level 1", true},
		"orchestrator/worker/workertest/dialect.go: keyFits": {1, "keys of the simulated engine, at level 2", true},
		"poolcore/status.go: Called":                         {1, "a worker's own key, at level 2", true},
		"poolcore/engine/enginetest/suite.go: discreet":      {2, "looks for a leak in an error", false},
		"poolregistry/nodeagent/register.go: adopt":          {1, "a node's own lease with the answer of the registry that gave it: both know both", false},
		"narration/redact.go: find":                          {1, "the name of a rule", false},
		"narration/literal.go: AddLiteral":                   {2, "a literal to be hidden, with the replacement and by address, when the program registers it", false},
		"orchestrator/worker/workertest/fault.go: validate":  {1, "whether a fault counts tokens of text", false},
	}
}

// comparison is one place where a secret seems to be compared.
type comparison struct {
	at   ast.Node
	in   string // name of the function, "" outside of any
	what string
	safe bool // a constant-time function with a whole fixed-length array on one side
}

// comparisons finds what compares secrets in one file: by operator, by switch, by
// a function that takes a time that tells, by a map, and by package subtle, which
// must not spread either. It goes by names: what a name or a call says is a secret,
// and what is made of it in the same function.
func comparisons(f *ast.File) (found []comparison) {
	packages := map[string]string{}
	for _, i := range f.Imports {
		whole, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(whole)
		if i.Name != nil {
			name = i.Name.Name
		}
		packages[name] = path.Base(whole)
	}
	for _, d := range f.Decls {
		c := comparer{packages: packages, secret: map[string]bool{}}
		if fn, ok := d.(*ast.FuncDecl); ok {
			c.in = fn.Name.Name
			if secretName(c.in) && slices.ContainsFunc(words(c.in), comparing) { // as sameToken(a, b string)
				for _, p := range fn.Type.Params.List {
					for _, id := range p.Names {
						c.secret[id.Name] = c.secret[id.Name] || inClear(p.Type)
					}
				}
			}
		}
		for before := -1; before != len(c.secret); { // until nothing more is made of a secret
			before = len(c.secret)
			ast.Inspect(d, c.spread)
		}
		ast.Inspect(d, c.look)
		found = append(found, c.found...)
	}
	return found
}

func comparing(word string) bool {
	return slices.Contains([]string{"same", "equal", "matches", "match", "compare", "verify", "check", "fits", "valid"}, word)
}

type comparer struct {
	in       string
	packages map[string]string // by name in this file: last element of an import's path
	secret   map[string]bool   // variables that were made of secrets
	found    []comparison
}

func (c *comparer) add(n ast.Node, what string, safe bool) {
	c.found = append(c.found, comparison{n, c.in, what, safe})
}

// look notes every comparison beneath a declaration.
func (c *comparer) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		if (n.Op == token.EQL || n.Op == token.NEQ) && !nothing(n.X) && !nothing(n.Y) && (c.holds(n.X) || c.holds(n.Y)) {
			c.add(n, n.Op.String(), false)
		}
	case *ast.SwitchStmt:
		c.lookSwitch(n)
	case *ast.IndexExpr:
		if c.holds(n.Index) {
			c.add(n, "a map or index", false)
		}
	case *ast.CallExpr:
		pkg, name := callee(n)
		pkg = cmp.Or(c.packages[pkg], pkg) // also under another name
		switch whole := pkg + "." + name; {
		case pkg == "subtle", whole == "hmac.Equal":
			c.add(n, whole, slices.ContainsFunc(n.Args, wholeArray) || name == "ConstantTimeSelect")
		case slices.Contains(tellingCalls(), whole) && slices.ContainsFunc(n.Args, c.holds):
			c.add(n, whole, false)
		}
	}
	return true
}

// tellingCalls take a time that depends on what they compare.
func tellingCalls() []string {
	return []string{
		"bytes.Equal", "bytes.Compare", "bytes.EqualFold", "bytes.HasPrefix", "bytes.HasSuffix", "bytes.Contains", "bytes.Index",
		"strings.Compare", "strings.EqualFold", "strings.HasPrefix", "strings.HasSuffix", "strings.Contains", "strings.Index",
		"slices.Equal", "slices.EqualFunc", "slices.Compare", "slices.Contains", "slices.Index", "slices.BinarySearch",
		"maps.Equal", "cmp.Compare", "reflect.DeepEqual", "regexp.MatchString",
	}
}

func (c *comparer) lookSwitch(n *ast.SwitchStmt) {
	if n.Tag == nil {
		return // its cases are comparisons of their own
	}
	for _, s := range n.Body.List {
		for _, e := range s.(*ast.CaseClause).List {
			if !nothing(e) && (c.holds(n.Tag) || c.holds(e)) {
				c.add(e, "switch", false)
			}
		}
	}
}

// spread notes the variables that a statement fills with a secret, and what a Use
// method lends.
func (c *comparer) spread(n ast.Node) bool {
	mark := func(e ast.Expr) {
		if id, ok := e.(*ast.Ident); ok && id.Name != "_" {
			c.secret[id.Name] = true
		}
	}
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, right := range n.Rhs {
			if !c.holds(right) {
				continue
			}
			mark(n.Lhs[i])
			if _, name := callee(right); name == "Cut" { // before, after, found
				mark(n.Lhs[1])
			}
		}
	case *ast.RangeStmt:
		if c.holds(n.X) && n.Value != nil {
			mark(n.Value)
		}
	case *ast.CallExpr:
		if slices.ContainsFunc(n.Args, bearerText) { // what begins with the scheme is a token
			for _, a := range n.Args {
				mark(a)
			}
		}
		if _, name := callee(n); name == "Use" {
			for _, a := range n.Args {
				if fn, ok := a.(*ast.FuncLit); ok {
					for _, p := range fn.Type.Params.List {
						for _, id := range p.Names {
							mark(id)
						}
					}
				}
			}
		}
	}
	return true
}

// holds reports whether an expression gives a secret or what is made of one.
func (c *comparer) holds(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return c.secret[e.Name] || !e.IsExported() && secretName(e.Name) // an exported name is a type or a constant
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return secretName(e.Sel.Name) && !(ok && c.packages[x.Name] != "") // and so is one of another package
	case *ast.ParenExpr:
		return c.holds(e.X)
	case *ast.StarExpr:
		return c.holds(e.X)
	case *ast.UnaryExpr:
		return c.holds(e.X)
	case *ast.SliceExpr:
		return c.holds(e.X)
	case *ast.IndexExpr:
		return c.holds(e.X)
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (c.holds(e.X) || c.holds(e.Y))
	case *ast.CallExpr:
		return c.callHolds(e)
	}
	return false
}

func (c *comparer) callHolds(e *ast.CallExpr) bool {
	pkg, name := callee(e)
	switch {
	case name == "Reveal", name == "reveal", pkg != "" && secretName(name) && c.packages[pkg] == "" && pkg != "dec":
		return true // a method; dec is a decoder of JSON, whose tokens are another thing
	case name == "Get" || name == "Values":
		return len(e.Args) == 1 && secretHeader(e.Args[0])
	case name == "String" || name == "Bytes" || name == "Sum":
		return c.holds(e.Fun.(*ast.SelectorExpr).X)
	}
	passes := slices.Contains([]string{"strings", "bytes", "slices", "sha256", "sha512", "sha1", "md5", "hex", "base64", "hmac", "fmt"}, pkg) ||
		pkg == "" && slices.Contains([]string{"string", "byte", "append", "min", "max", ""}, name) // "" is a conversion such as []byte(x)
	return passes && (slices.ContainsFunc(e.Args, c.holds) || slices.ContainsFunc(e.Args, bearerText)) && !slices.Contains(tellingCalls(), pkg+"."+name)
}

// callee splits a call into what stands before the last dot, where that is a
// name, and the name behind it.
func callee(e ast.Expr) (pkg, name string) {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return "", ""
	}
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return "", fun.Name
	case *ast.SelectorExpr:
		if x, ok := fun.X.(*ast.Ident); ok {
			return x.Name, fun.Sel.Name
		}
		return "?", fun.Sel.Name
	}
	return "", ""
}

// wholeArray reports whether an argument is x[:], which of an array has a fixed length.
func wholeArray(e ast.Expr) bool {
	s, ok := e.(*ast.SliceExpr)
	return ok && s.Low == nil && s.High == nil
}

// nothing reports whether an operand is empty or a number: comparing with it
// tells whether there is a secret, never which.
func nothing(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Value == `""` || e.Value == "``" || e.Kind == token.INT
	case *ast.Ident:
		return e.Name == "nil" || e.Name == "true" || e.Name == "false"
	case *ast.CompositeLit:
		return len(e.Elts) == 0
	}
	return false
}

// TestSecretCompare proves SEC-2: in all code that is no test, that of packages
// for the tests of others included, secrets are compared in the listed functions
// only, and there in constant time.
func TestSecretCompare(t *testing.T) {
	w := loadWorkspace(t)
	homes := compareHomes()
	times := map[string]int{}
	for _, s := range w.files {
		if s.test() {
			continue
		}
		for _, c := range comparisons(s.ast) {
			name := s.name + ": " + c.in
			h, listed := homes[name]
			times[name]++
			switch {
			case !listed:
				t.Errorf("%s: %s compares a secret by %s; authmin's Token.Equal and secrets.Secret.Equal are there for it", w.line(c.at), c.in, c.what)
			case h.fixed && !c.safe:
				t.Errorf("%s: %s compares a secret by %s, want package subtle over a digest of fixed length", w.line(c.at), c.in, c.what)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(homes)) {
		if h := homes[name]; times[name] != h.times {
			t.Errorf("%s (%s): %d comparisons, want %d", name, h.why, times[name], h.times)
		}
	}
}

// TestSecretCompareCanFail plants what the gate is for, and what it must leave alone.
func TestSecretCompareCanFail(t *testing.T) {
	for code, want := range map[string]int{
		`return a.Token == b`:                                                                  1,
		`return "x" != cfg.Password`:                                                           1,
		`return apiKey == want`:                                                                1,
		`return r.Header.Get("Authorization") == "Bearer "+want`:                               1,
		`return t.Reveal() == want`:                                                            1,
		`s := t.Reveal(); return s == want`:                                                    1,
		`s := strings.TrimSpace(t.Reveal()); u := []byte(s); return u[0] == v[0]`:              1,
		`x := strings.TrimPrefix(h, "Bearer "); return x == want`:                              1,
		`x := strings.TrimPrefix(h, "bearer "); return h == want || x == ""`:                   1,
		`sum := sha256.Sum256([]byte(token)); return sum == want`:                              1,
		`_, after, _ := strings.Cut(bearer, " "); return after == want`:                        1,
		`return s.Use(func(b []byte) error { if string(b) == want { return x }; return nil })`: 1,
		`for _, s := range secret { if s == c { return true } }`:                               1,
		`switch token { case "a", "b": return true }`:                                          2,
		`switch x { case lease: return true }`:                                                 1,
		`switch { case secret == x: return true }`:                                             1,
		`return bytes.Equal(mac, want)`:                                                        1,
		`return hmac.Equal(a, b)`:                                                              1,
		`return subtle.ConstantTimeCompare(a, b) == 1`:                                         1,
		`return subtle.ConstantTimeByteEq(a, b) == 1`:                                          1,
		`return ct.ConstantTimeCompare(a, b) == 1`:                                             1,
		`return strings.EqualFold(cfg.SealKey, x)`:                                             1,
		`return slices.Contains(all, leaseToken)`:                                              1,
		`return slices.Equal(dataKey, x)`:                                                      1,
		`return reflect.DeepEqual(credentials, x)`:                                             1,
		`return strings.HasPrefix(private_key, x)`:                                             1,
		`return live[token]`:                                                                   1,
		`x := func() bool { return e.lease == d }; return x()`:                                 1,

		`return token == ""`:                                0,
		`return nil != cfg.Secret`:                          0,
		`return len(token) == len(other)`:                   0,
		`return k.Digest != [32]byte{}`:                     0,
		`return token == [32]byte{}`:                        0,
		`return e.Kind == worker.Token || e.Kind == Token`:  0,
		`t, _ := dec.Token(); return t == json.Delim('{')`:  0,
		`return k.Token.IsZero() == given`:                  0,
		`return t.Equal(u) && s.EqualSecret(v)`:             0,
		`return maxToken == n || tokens == n`:               0,
		`return tokenName == name || secretFile == x`:       0,
		`return a.lease.NodeID == b`:                        0,
		`_, err := parse(token); return err == io.EOF`:      0,
		`tok, err := ParseToken(s); return err != errBad`:   0,
		`return r.Header.Get("Content-Type") == "x"`:        0,
		`return strings.EqualFold(name, "Authorization")`:   0,
		`return bytes.Equal(a, b) || slices.Equal(c, d)`:    0,
		`switch token { case "": return true }`:             0,
		`for i := range secret { _ = i == 3 }`:              0,
		`return machine == x || emacs == y || basekey == z`: 0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nimport (\"x/worker\"; ct \"crypto/subtle\")\nfunc f() any {\n"+code+"\nreturn nil\n}", 0)
		if err != nil {
			t.Fatalf("%s: %v", code, err)
		}
		if got := comparisons(f); len(got) != want {
			t.Errorf("%s: %d findings, want %d: %v", code, len(got), want, got)
		}
	}
	safe, _ := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() { _ = subtle.ConstantTimeCompare(a[:], b[:]) }\nfunc g() { _ = subtle.ConstantTimeCompare(a, b) }", 0)
	named, _ := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc sameToken(a, b string) bool { return a == b }\nfunc sameName(a, b string) bool { return a == b }", 0)
	if got := comparisons(named); len(got) != 1 {
		t.Errorf("what a function's name says: %v", got)
	}
	if got := comparisons(safe); len(got) != 2 || !got[0].safe || got[1].safe {
		t.Errorf("fixed length is told apart wrongly: %v", got)
	}
}
