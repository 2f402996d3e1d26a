package nodehttp

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/wirecode"
)

// decode reads one JSON body into v; code is what a malformed one is refused with.
func decode(r *http.Request, v any, code poolregistry.Code) error {
	body, err := read(r, code)
	if err != nil {
		return err
	}
	return parse(body, v, code)
}

// read returns one body that is JSON.
func read(r *http.Request, code poolregistry.Code) ([]byte, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, refusal(wirecode.MediaType)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, refusal(wirecode.TooLarge)
		}
		return nil, refusal(code, "body: incomplete")
	}
	if err := inputvalidation.CheckJSON("body", body, maxBody); err != nil {
		return nil, refusal(code, "body: json")
	}
	return body, nil
}

// parse decodes JSON into v.
func parse(body []byte, v any, code poolregistry.Code) error {
	if err := json.Unmarshal(body, v); err != nil {
		field := "body"
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" && len(te.Field) <= 64 {
			field = te.Field // names of our own types only
		}
		return refusal(code, field+": type")
	}
	return nil
}
