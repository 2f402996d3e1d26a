package handoff

import "time"

// Reread reports for two looks in a row at a folder with one file that is not
// believed whether the second one judged it anew.
func Reread(cfg WatchConfig) (bool, error) {
	cfg, err := cfg.check()
	if err != nil {
		return false, err
	}
	w := watcher{cfg: cfg, plan: newPlan()}
	first, err := w.look()
	if err != nil {
		return false, err
	}
	second, err := w.look()
	return first[0].err != second[0].err, err
}

// Looks returns a look of one watcher, after the changes of its files have settled.
func Looks(cfg WatchConfig) (func() (int, error), error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	w := watcher{cfg: cfg, plan: newPlan()}
	<-time.After(settled + settled/10)
	return func() (int, error) {
		seen, err := w.look()
		return len(seen), err
	}, nil
}
