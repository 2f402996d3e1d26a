// Package config is the one table behind everything that can be set from
// outside: environment variables, flags, keys of the TOML file, help texts and
// docs/configuration.md all come from [Table].
//
// A value is taken from the first of: flag, environment, file, default. [Load]
// reports every fault in one run, each with its name, what was given (never a
// secret), where it came from, what is allowed and how to mend it. A number that
// cannot be read is a fault, not the default.
//
// The package reads the file and nothing else; it opens no store, resolves no
// name and changes nothing.
package config
