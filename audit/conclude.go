package audit

import (
	"fmt"
	"strings"
)

// conclude tells what only the end shows.
func (v *verifier) conclude() {
	j := v.j
	j.decide(nil)
	if j.run.open {
		v.rep.UncleanRuns++
	}
	for _, f := range v.later {
		if j.hit[strings.TrimSuffix(f.File, sidecarSuffix)] == 0 {
			j.damage++
			v.rep.add(f)
		}
	}
	v.absentFiles()
	head := v.man.head()
	if head != nil && v.has(head.Name) && j.seq+j.holes <= head.LastSeq {
		at := j.behind(j.seq + j.holes)
		if j.last.file != head.Name {
			at = where{file: head.Name, line: 1, seq: at.seq}
		}
		j.add(Truncated, at, fmt.Sprintf("seq %d to %d", at.seq, head.LastSeq), "the end of the log")
	}
}

// absentFiles reports the files that others speak of.
func (v *verifier) absentFiles() {
	j := v.j
	gone := func(name string, seq uint64, want string) {
		if !v.has(name) && !j.gone[name] {
			j.gone[name] = true
			j.add(Missing, where{file: name, seq: seq}, want, "none")
		}
	}
	if v.man != nil {
		for _, m := range v.man.Files {
			gone(m.Name, m.FirstSeq, "the file with seq "+fmt.Sprintf("%d to %d", m.FirstSeq, m.LastSeq))
		}
	}
	for _, name := range v.absent {
		gone(name, 0, "the file that the next one seals")
	}
	if n := len(v.files); n > 0 && v.sidecar[v.files[n-1].String()] && len(j.gone) == 0 {
		last := v.files[n-1]
		j.add(Missing, where{file: last.String(), seq: j.seq}, "a file after this closed one", "none")
	}
}
