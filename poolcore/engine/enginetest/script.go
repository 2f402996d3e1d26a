package enginetest

import (
	"embed"
	"encoding/json"
	"fmt"
)

// Answer is what one route answers.
type Answer struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// Script is one engine, recorded: its routes in each state. A route that a state
// does not name answers as in Ready; one that Ready does not name is 404.
type Script struct {
	Ready      map[string]Answer `json:"ready"`
	Loading    map[string]Answer `json:"loading"`
	Overloaded map[string]Answer `json:"overloaded"`
	// WrongModel: the engine serves under another name, or has not got the model.
	WrongModel map[string]Answer `json:"wrong_model"`
	// Model is what Endpoint.Model asks for; Alias what Report.Alias must be in
	// Ready, and empty for a kind without names.
	Model string `json:"model"`
	Alias string `json:"alias"`
	// Required are the routes without which there is no report; Structured those
	// of them whose answer is more than a status.
	Required   []string `json:"required"`
	Structured []string `json:"structured"`
}

//go:embed recorded/*.json
var recorded embed.FS

// Recorded returns the script of a kind of package engine, by its name.
func Recorded(kind string) (Script, error) {
	data, err := recorded.ReadFile("recorded/" + kind + ".json")
	if err != nil {
		return Script{}, fmt.Errorf("read script: %w", err)
	}
	var s Script
	if err := json.Unmarshal(data, &s); err != nil {
		return Script{}, fmt.Errorf("read script of %s: %w", kind, err)
	}
	return s, nil
}
