package poolcore

import (
	"context"
	"log/slog"
	"time"
)

// perform carries one effect out; what takes time runs beside the loop and comes
// back as a message.
func (p *Pool) perform(ctx context.Context, f effect) {
	switch f := f.(type) {
	case effStage:
		p.help(func() {
			p.post(evStaged{op: f.op, fail: p.crew.stage(ctx, f.edition.cfg, f.edition.kind, f.inPlace)})
		})
	case effSpawn:
		p.help(func() { p.spawn(ctx, f) })
	case effAdopt:
		go p.await(f.worker, f.gen)
	case effProbe:
		w := p.workers[f.gen]
		p.help(func() { p.probe(ctx, w, f) })
	case effKill:
		w := p.workers[f.gen]
		p.helpers.Go(func() {
			if !p.crew.stop(w, f.grace) {
				p.post(evStuck{f.gen})
			}
		})
	case effAnnounce:
		p.announce(f)
	case effJournal:
		p.journal(f)
	case effPurge:
		p.help(func() { p.post(evPurged{op: f.op, fail: errorOf(p.crew.purge(ctx, p.id, f.work), purgeFailed)}) })
	case effAccept:
		p.accept(f)
	case effDone:
		p.answer(f)
	case effNudge:
		p.host.nudge()
	default:
		p.host.note(ctx, p, f)
	}
}

// help runs one of at most executors helpers.
func (p *Pool) help(work func()) {
	p.helpers.Go(func() {
		p.slots <- struct{}{}
		defer func() { <-p.slots }()
		work()
	})
}

// file runs work after all file effects before it.
func (p *Pool) file(work func()) {
	before, done := p.inOrder, make(chan struct{})
	p.inOrder = done
	p.helpers.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		work()
	})
}

func (p *Pool) announce(f effAnnounce) {
	w := p.workers[f.gen]
	if w == nil {
		return
	}
	p.file(func() {
		p.crew.announce(w, f.edition.cfg, f.on)
		if f.on {
			p.post(evAnnounced{f.gen})
		}
	})
}

func (p *Pool) journal(f effJournal) {
	var j *reloadJournal
	if f.phase != "" {
		j = &reloadJournal{Pool: string(p.id), From: f.from.cfg, To: f.to.cfg, Phase: f.phase}
	}
	p.file(func() {
		err := p.crew.journal(p.id, j)
		if err != nil {
			p.host.cfg.Logger.Error("reload journal", slog.String("pool", string(p.id)), slog.Any("error", err))
		}
		p.post(evJournaled{serial: f.serial, fail: errorOf(err, DirNotWritable)})
	})
}

// spawn makes sure that no process starts which nobody knows.
func (p *Pool) spawn(ctx context.Context, f effSpawn) {
	w, fail := p.crew.spawn(ctx, f.edition.cfg, f.edition.kind, f.at, uint64(f.gen))
	switch {
	case fail != nil:
		p.post(evSpawnFailed{gen: f.gen, fail: *fail, jitter: jitter()})
	case p.post(evSpawned{gen: f.gen, worker: w}):
		go p.await(w, f.gen)
	case p.crew.stop(w, 0): // the loop gave up waiting for us
		p.crew.wait(w)
	}
}

// await is not waited for: a process that survives SIGKILL keeps it for ever.
func (p *Pool) await(w *worker, g gen) {
	why := p.crew.wait(w)
	p.post(evExited{gen: g, fail: why, jitter: jitter()})
}

func (p *Pool) probe(ctx context.Context, w *worker, f effProbe) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	began := time.Now()
	answer := p.crew.probe(ctx, w)
	served := w.served.Load()
	if answer.ready && !answer.foreign && answer.fault == nil {
		w.served.Store(true)
	}
	p.host.stats.probed(served, answer, time.Since(began))
	p.post(evProbed{gen: f.gen, probe: answer, jitter: jitter()})
}

// accept answers an operation's request for the first time.
func (p *Pool) accept(f effAccept) {
	w := p.waiting[f.op]
	if f.code != "" || f.done {
		delete(p.waiting, f.op)
	}
	if w.accepted != nil {
		w.accepted <- acceptance{code: f.code, finished: f.done}
	}
}

// answer tells a waiter how its request ended. A slot that nobody wants any more
// is given back.
func (p *Pool) answer(f effDone) {
	w := p.waiting[f.op]
	delete(p.waiting, f.op)
	if w.done == nil {
		return
	}
	r := reply{drained: f.drained, gen: f.worker}
	if f.fail != nil {
		r.err = f.fail.asError()
	}
	for i := range p.state.places {
		if pl := &p.state.places[i]; pl.gen == f.worker && f.worker != 0 {
			r.shown = p.show(p.workers[f.worker], pl)
		}
	}
	if !w.done(r) && f.worker != 0 {
		p.after = append(p.after, evRelease{f.worker})
	}
}
