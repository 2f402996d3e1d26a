package taskapi

import "net/http"

// OpenAIErrorBody is the body of every refusal on /v1 and the data of an error
// frame in its streams.
type OpenAIErrorBody struct {
	Error OpenAIError `json:"error"`
}

// OpenAIError is the error shape that OpenAI clients read.
type OpenAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Code    Code    `json:"code"`
	Param   *string `json:"param"` // the member at fault; null if none
}

// OpenAI returns e in the shape of /v1. The type follows the status.
func (e *Error) OpenAI() OpenAIErrorBody {
	out := OpenAIError{Message: e.Message, Type: openAIType(e.HTTPStatus()), Code: e.Code}
	if field, ok := e.Details["field"].(string); ok {
		out.Param = &field
	}
	return OpenAIErrorBody{Error: out}
}

func openAIType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusNotFound:
		return "not_found_error"
	case status == http.StatusConflict:
		return "conflict_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

// Model is one entry of GET /v1/models.
type Model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`  // model
	Created int64  `json:"created"` // 0: not known here
	OwnedBy string `json:"owned_by"`
}

// ModelList is the body of GET /v1/models: what can be placed now.
type ModelList struct {
	Object string  `json:"object"` // list
	Data   []Model `json:"data"`
}

// NewModel returns the entry of one model.
func NewModel(id string) Model { return Model{ID: id, Object: "model", OwnedBy: "llorch"} }

// NewModelList returns the list of the models named, in their order.
func NewModelList(ids []string) ModelList {
	list := ModelList{Object: "list", Data: make([]Model, len(ids))}
	for i, id := range ids {
		list.Data[i] = NewModel(id)
	}
	return list
}
