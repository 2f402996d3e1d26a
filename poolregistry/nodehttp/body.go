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
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return refusal(wirecode.MediaType)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return refusal(wirecode.TooLarge)
		}
		return refusal(code, "body: incomplete")
	}
	if err := inputvalidation.CheckJSON("body", body, maxBody); err != nil {
		return refusal(code, "body: json")
	}
	if err := json.Unmarshal(body, v); err != nil {
		field := "body"
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" && len(te.Field) <= 64 {
			field = te.Field // names of our own types only
		}
		return refusal(code, field+": type")
	}
	return nil
}
