package nodehttp

import (
	"net/http"

	"github.com/llorch/llorch/poolregistry/nodeapi"
)

func (h *handler) availability(*http.Request, nodeapi.Principal) (any, error) {
	return h.Registry.View().Availability(), nil
}
