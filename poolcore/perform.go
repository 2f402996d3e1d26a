package poolcore

import (
	"context"
	"log/slog"
	"time"
)

// adopt makes the workers of effAdopt known before anything is shown.
func (p *Pool) adopt(effects []effect) {
	for _, f := range effects {
		if f, ok := f.(effAdopt); ok {
			w := p.found[f.n].w
			w.gen = f.gen
			p.workers[f.gen] = w
		}
	}
}

// perform carries one effect out; what takes time runs beside the loop and comes
// back as a message.
func (p *Pool) perform(ctx context.Context, f effect) {
	switch f := f.(type) {
	case effStage:
		ed := p.editions[f.edition]
		p.help(func() {
			fail := p.crew.stage(ctx, ed.cfg, ed.kind, f.inPlace)
			p.post(message{ev: evStaged{op: f.op, fail: fail}})
		})
	case effSpawn:
		go p.spawn(ctx, p.editions[f.edition], f)
	case effAdopt:
		go p.await(p.workers[f.gen], f.gen)
	case effProbe:
		go p.probe(ctx, p.workers[f.gen], f)
	case effKill:
		go p.kill(p.workers[f.gen], f)
	case effAnnounce:
		p.announce(f)
	case effJournal:
		p.journal(f)
	case effPurge:
		work := p.purges[f.op]
		delete(p.purges, f.op)
		p.help(func() {
			err := p.crew.purge(ctx, p.id, work)
			p.post(message{ev: evPurged{op: f.op, fail: errorOf(err, purgeFailed)}})
		})
	case effAccept:
		p.accept(f)
	case effDone:
		p.answer(f)
	default:
		p.tell(ctx, f)
	}
}

// tell is for the effects that only tell the world.
func (p *Pool) tell(ctx context.Context, f effect) {
	switch f := f.(type) {
	case effFailed:
		p.host.failed(ctx, p, p.workers[f.gen], f)
	case effMoved:
		p.host.moved(ctx, p, p.workers[f.gen], f)
	case effDrained:
		p.host.drained(ctx, p, f)
	case effReloaded:
		p.host.reloaded(ctx, p, f)
	case effNudge:
		p.host.nudge()
	}
}

// help runs one of at most executors helpers, which the end of the loop waits for.
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
	w, cfg := p.workers[f.gen], p.editions[f.edition].cfg
	if w == nil {
		return
	}
	p.file(func() {
		p.crew.announce(w, cfg, f.on)
		if f.on {
			p.post(message{ev: evAnnounced{gen: f.gen}})
		}
	})
}

func (p *Pool) journal(f effJournal) {
	var j *reloadJournal
	if f.phase != "" {
		j = &reloadJournal{Pool: string(p.id), From: p.editions[f.from].cfg, To: p.editions[f.to].cfg, Phase: f.phase}
	}
	p.file(func() {
		err := p.crew.journal(p.id, j)
		if err != nil {
			p.host.cfg.Logger.Error("reload journal", slog.String("pool", string(p.id)), slog.Any("error", err))
		}
		p.post(message{ev: evJournaled{serial: f.serial, fail: errorOf(err, DirNotWritable)}})
	})
}

func (p *Pool) spawn(ctx context.Context, ed edition, f effSpawn) {
	p.slots <- struct{}{}
	w, fail := p.crew.spawn(ctx, ed.cfg, ed.kind, f.at, f.gen)
	<-p.slots
	if fail != nil {
		p.post(message{ev: evSpawnFailed{gen: f.gen, fail: *fail, jitter: jitter()}})
		return
	}
	if !p.post(message{ev: evSpawned{gen: f.gen}, worker: w}) {
		p.crew.stop(w, 0) // the loop gave up waiting for us
		p.crew.wait(w)
		return
	}
	p.await(w, f.gen)
}

func (p *Pool) await(w *worker, gen uint64) {
	why := p.crew.wait(w)
	p.post(message{ev: evExited{gen: gen, fail: why, jitter: jitter()}})
}

func (p *Pool) probe(ctx context.Context, w *worker, f effProbe) {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	began := time.Now()
	answer := p.crew.probe(ctx, w)
	served := w.served.Load()
	if answer.ready && !answer.foreign && answer.fault == nil {
		w.served.Store(true)
	}
	p.host.stats.probed(served, answer, time.Since(began))
	p.post(message{ev: evProbed{gen: f.gen, probe: answer, jitter: jitter()}})
}

func (p *Pool) kill(w *worker, f effKill) {
	if !p.crew.stop(w, f.grace) {
		p.post(message{ev: evStuck{gen: f.gen}})
	}
}

// accept answers an operation's request for the first time.
func (p *Pool) accept(f effAccept) {
	w := p.waiting[f.op]
	if f.code != "" || f.done {
		delete(p.waiting, f.op)
		delete(p.purges, f.op)
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
	r := reply{drained: f.drained, gen: f.gen}
	if f.fail != nil {
		r.err = f.fail.asError()
	}
	if f.gen != 0 {
		r.worker = p.workers[f.gen]
		for i := range p.state.places {
			if pl := &p.state.places[i]; pl.gen == f.gen && r.worker != nil {
				r.shown = p.show(r.worker, pl)
			}
		}
	}
	if !w.done(r) && f.gen != 0 {
		p.after = append(p.after, evRelease{gen: f.gen})
	}
}
