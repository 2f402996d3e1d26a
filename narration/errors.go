package narration

// ConfigError says which field of a [Config] breaks which rule. It never holds
// the value.
type ConfigError struct {
	Field string
	Rule  string
}

// Error joins both.
func (e *ConfigError) Error() string { return "narration config: " + e.Field + ": " + e.Rule }
