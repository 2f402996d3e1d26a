package examples_test

import (
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// bearerText reports whether an expression is the scheme of a token.
func bearerText(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && strings.HasPrefix(strings.ToLower(lit.Value), `"bearer`)
}

// secretHeader reports whether an expression is the name of a field that carries credentials.
func secretHeader(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return false
	}
	name, _ := strconv.Unquote(lit.Value)
	return slices.Contains([]string{"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-lease-token"}, strings.ToLower(name))
}

// secretName reports whether the words of a Go name say that it is a secret, and
// not the place, the name, the kind or the number of one.
func secretName(name string) bool {
	w := words(name)
	if len(w) == 0 ||
		slices.Contains([]string{"name", "names", "file", "path", "dir", "env", "count", "kind", "limit", "len", "index", "at", "fp6", "label", "source", "err", "form", "info"}, w[len(w)-1]) ||
		slices.Contains([]string{"has", "have", "is", "no", "not", "max", "min", "num", "per", "err"}, w[0]) {
		return false
	}
	for i, word := range w {
		switch word {
		case "token", "secret", "password", "passwd", "passphrase", "apikey", "bearer", "credential", "credentials", "mac", "hmac", "sealkey", "authorization":
			return true
		case "key":
			if i > 0 && slices.Contains([]string{"api", "seal", "data", "private", "secret"}, w[i-1]) {
				return true
			}
		}
	}
	return w[len(w)-1] == "lease"
}

// words splits a Go name into its words in lower case: APIKey2 is api, key2.
func words(name string) (out []string) {
	r := []rune(name)
	from := 0
	for i := 1; i <= len(r); i++ {
		if i == len(r) || r[i] == '_' || r[i-1] == '_' || unicode.IsUpper(r[i]) && (!unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
			if word := strings.Trim(string(r[from:i]), "_"); word != "" {
				out = append(out, strings.ToLower(word))
			}
			from = i
		}
	}
	return out
}
