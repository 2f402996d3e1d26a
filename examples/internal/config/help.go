package config

import (
	"fmt"
	"strings"
)

// HelpText returns a page of at most 40 lines of 80 columns: the flags that most
// people need, or, with rare, the others and the exit codes.
func HelpText(prog string, rare bool) string {
	var b strings.Builder
	group := ""
	for _, v := range of(prog) {
		if v.Rare != rare {
			continue
		}
		if v.Group != group {
			group = v.Group
			b.WriteString(group + ":\n")
		}
		b.WriteString(v.helpLine())
	}
	if rare {
		head := "What --help of " + prog + " leaves out. Variables, keys: docs/configuration.md.\n\n"
		return head + b.String() + exitHelp()
	}
	return about(prog) + "\n" + b.String() + "Other:\n" +
		"  --check-config [--json]    check everything, print the resolved table, exit\n" +
		"  --help-all --version       further flags and exit codes; the version\n"
}

func about(prog string) string {
	what := map[string]string{
		Orchestratord: "the control plane: admits, queues, places and streams tasks",
		PoolManagerd:  "the node daemon: supervises engines, registers, reports",
	}[prog]
	return prog + " is " + what + ".\nUsage: " + prog + " [--FLAG VALUE]...  (flag > environment > file > default)\n"
}

// helpLine is the flag, what it is for, and the default. The documents are
// written so that it fits the page.
func (v *Var) helpLine() string {
	doc := v.Doc
	if v.Secret() {
		doc = "file with " + doc
	}
	if v.Default != "" {
		doc += " (" + v.Default + ")"
	}
	return fmt.Sprintf("  %-26s %s\n", "--"+strings.ReplaceAll(v.key(), "_", "-"), doc)
}

func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "  %-3d %s\n", c.code, c.doc)
	}
	return b.String()
}

type exitCode struct {
	code int
	doc  string
}

func exitCodes() []exitCode {
	return []exitCode{
		{ExitOK, "done"},
		{ExitFailed, "failed"},
		{ExitUsage, "an argument that the program does not know"},
		{ExitUnavailable, "something needed at start is not available"},
		{ExitPolicy, "refused by security policy"},
		{ExitConfig, "bad configuration"},
	}
}

// Markdown returns docs/configuration.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(markdownHead)
	group := ""
	for _, v := range Table() {
		if v.Group != group {
			group = v.Group
			b.WriteString("\n## " + heading(v) + "\n\n| variable | flag and key | default | meaning |\n|---|---|---|---|\n")
		}
		b.WriteString(v.markdownRow())
	}
	b.WriteString("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "| %d | %s |\n", c.code, c.doc)
	}
	return b.String()
}

const markdownHead = `# Configuration

This page is written from the table in ` + "`examples/internal/config`" + `; a test compares the two.
To write it again: ` + "`LLORCH_UPDATE=1 go test ./examples -run TestConfigurationPage`" + `.

A value comes from the first of flag, environment variable, file, default. The file is
` + "`--config`, `LLORCH_CONFIG`, else `~/.config/llorch/PROGRAM.toml`, else `/etc/llorch/PROGRAM.toml`" + `,
in TOML. A flag is its key with dashes: ` + "`--node-timeout-secs 60`, `node_timeout_secs = 60`" + `. Lists are
separated by commas in flags and variables, arrays of strings in the file.

- Every fault is reported in one run, with its source, what is allowed and the fix; the program exits with 78.
- An empty variable counts as unset. A variable that begins with ORCHESTRATORD_, ORCHD_, POOL_MANAGERD_ or
  LLORCH_ and is not listed here is a fault; the ones that Kubernetes injects for services are skipped.
- A secret is never a flag's or key's value. Each secret X may come as X, as X_FILE (the absolute path of a file
  with mode 0600), by the flag and key that name such a file, or as the credential ` + "`llorch-api-token`" + ` of systemd,
  which wins over X itself. Files in mounted volumes may be readable by a group; the log warns if by more.
- A file of tokens holds the tokens with commas between, or one on each line, or lines "NAME TOKEN" and "NAME TOKEN END",
  END as in 2030-01-31T00:00:00Z; lines that begin with # are skipped. The first one is shown to other programs. A NAME
  owns the tasks that are submitted with it; tokens without one have the same owner.
- Tokens follow their file while the program runs: every 5 seconds, and at once on SIGHUP.
- ` + "`--check-config`" + ` prints every value with its source and starts nothing; ` + "`--json`" + ` prints it for programs.
- STATE stands for the value of state_dir.
- The file of pool-managerd also holds ` + "`[[pool]]`" + ` tables, one for each pool; their keys are those of
  poolcore.PoolConfig.
`

// heading names the group, and the program if only one reads it.
func heading(v Var) string {
	if len(v.Programs) > 1 {
		return v.Group
	}
	return v.Group + " (" + v.Programs[0] + ")"
}

func (v *Var) markdownRow() string {
	names := "–"
	if v.Env != "" {
		quoted := []string{"`" + v.Env + "`"}
		for _, a := range v.Aliases {
			quoted = append(quoted, "`"+a+"`")
		}
		names = strings.Join(quoted, ", ")
		if v.Secret() {
			names += ", each also with `_FILE`"
		}
	}
	value := v.Unset
	if v.Default != "" {
		value = strings.TrimSuffix("`"+v.Default+"`, "+v.Unset, ", ")
	}
	doc := v.Doc
	switch {
	case v.Kind == Int:
		doc += fmt.Sprintf(" (%d to %d", v.Min, v.Max)
		if v.Unit != "" {
			doc += " " + v.Unit
		}
		doc += ")"
	case len(v.Enum) > 0:
		doc += " (" + orList(v.Enum) + ")"
	}
	key := "`" + v.key() + "`"
	if v.Key == configKey {
		key = "`--config`, no key"
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", names, key, value, doc)
}
