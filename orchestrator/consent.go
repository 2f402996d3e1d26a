package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Consent is one person's word about one purpose.
type Consent struct {
	Subject string    `json:"subject,omitempty"`
	Purpose string    `json:"purpose"` // ^[a-z][a-z0-9_.-]{0,63}$
	Granted bool      `json:"granted"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"` // subject or privacy: the role that said so, never a name
}

// maxPurposes bounds what one person is asked.
const maxPurposes = 64

var purposeName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,63}$`)

// SetConsent records a consent or its revocation, of the caller if Subject is
// ""; At and By are set here. A revocation stops new tasks at once and cancels
// those that wait or run on its strength; after nil no reader sees another token
// of them. An error leaves the word as it was or as it is now: repeat the call.
func (o *Orchestrator) SetConsent(ctx context.Context, p Principal, c Consent) error {
	subject, ref, err := o.whose(ctx, p, c.Subject, "consent.set")
	if err == nil {
		err = o.Ready()
	}
	if err != nil {
		return err
	}
	if !purposeName.MatchString(c.Purpose) {
		return taskapi.InvalidField("purpose", "must match "+purposeName.String())
	}
	leave, err := o.people.enter(ref)
	if err != nil {
		return err
	}
	defer leave()
	c.Subject, c.At, c.By = "", time.Now().UTC().Truncate(time.Millisecond), "privacy"
	if subject == p.Subject() {
		c.By = "subject"
	}
	if err := o.storeConsent(ctx, ref, c); err != nil {
		return wireError(err)
	}
	if !c.Granted {
		if err := o.endWithout(ctx, ref, c.Purpose); err != nil {
			return wireError(err)
		}
	}
	if err := o.audit.consent(ctx, p, subject, c); err != nil {
		return wireError(fmt.Errorf("record the consent: %w", err))
	}
	return nil
}

// storeConsent writes the document; the last word stands.
func (o *Orchestrator) storeConsent(ctx context.Context, ref store.SubjectRef, c Consent) error {
	defer o.people.changed(ref) // whatever the outcome is
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode consent: %w", err)
	}
	key := own(ref) + c.Purpose
	for range persistTries {
		old, err := o.store.Doc(ctx, store.KindConsent, key)
		if errors.Is(err, store.ErrNotFound) {
			granted, err := o.readConsents(ctx, ref)
			if err != nil {
				return err
			}
			if len(granted) >= maxPurposes {
				return taskapi.InvalidField("purpose", "too many")
			}
		} else if err != nil {
			return fmt.Errorf("read consent: %w", err)
		}
		_, err = o.putDoc(ctx, store.Doc{Kind: store.KindConsent, Key: key, Data: text}, old.Version)
		if !errors.Is(err, store.ErrVersion) {
			return err
		}
	}
	return store.ErrUnavailable
}

// endWithout ends the tasks that needed a purpose.
func (o *Orchestrator) endWithout(ctx context.Context, ref store.SubjectRef, purpose string) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timing.Cancel+5*time.Second)
	defer cancel()
	live, _ := o.runs.of(ref)
	for _, r := range live {
		if !slices.Contains(o.purposes(r), purpose) {
			continue
		}
		if err := o.stopRun(ctx, r, sched.Consent); err != nil {
			return err
		}
	}
	return nil
}

// purposes are what a task needs consent for: its tenant's and its own.
func (o *Orchestrator) purposes(r *run) []string {
	return o.purposesOf(r.owner.Tenant, r.spec.Purposes)
}

func (o *Orchestrator) purposesOf(tenant string, asked []string) []string {
	if o.cfg.Tenants == nil {
		return asked
	}
	policy, _ := o.cfg.Tenants(tenant)
	return slices.Concat(policy.Consent, asked)
}

// consented returns nil if a person has consented to every purpose, else
// CONSENT_REQUIRED with the first that is missing. What nobody said is no consent.
func (o *Orchestrator) consented(ctx context.Context, ref store.SubjectRef, purposes []string) error {
	if len(purposes) == 0 {
		return nil
	}
	granted, version, ok := o.people.known(ref)
	if !ok {
		var err error
		if granted, err = o.readConsents(ctx, ref); err != nil {
			return err
		}
		o.people.learn(ref, granted, version)
	}
	for _, p := range purposes {
		if !granted[p] {
			return taskapi.NewError(taskapi.ConsentRequired).With("purpose", p)
		}
	}
	return nil
}

func (o *Orchestrator) readConsents(ctx context.Context, ref store.SubjectRef) (map[string]bool, error) {
	granted := make(map[string]bool)
	for c, err := range o.consentDocs(ctx, ref) {
		if err != nil {
			return nil, err
		}
		granted[c.Purpose] = c.Granted
	}
	return granted, nil
}

// consentDocs yields a person's consents by purpose.
func (o *Orchestrator) consentDocs(ctx context.Context, ref store.SubjectRef) func(yield func(Consent, error) bool) {
	return func(yield func(Consent, error) bool) {
		for d, err := range o.store.Docs(ctx, store.KindConsent, own(ref)) {
			var c Consent
			if err == nil {
				err = json.Unmarshal(d.Data, &c)
			}
			if err != nil {
				yield(c, fmt.Errorf("read consents: %w", err))
				return
			}
			c.Purpose = strings.TrimPrefix(d.Key, own(ref))
			if !yield(c, nil) {
				return
			}
		}
	}
}

// Consents returns what a person has said, by purpose. For the person and for
// role privacy.
func (o *Orchestrator) Consents(ctx context.Context, p Principal, subject string) ([]Consent, error) {
	subject, ref, err := o.whose(ctx, p, subject, "consent.read")
	if err != nil {
		return nil, err
	}
	var out []Consent
	for c, err := range o.consentDocs(ctx, ref) {
		if err != nil {
			return nil, wireError(err)
		}
		c.Subject = subject
		out = append(out, c)
	}
	return out, nil
}

// known returns the consents in memory, and the version to learn them under.
func (p *people) known(ref store.SubjectRef) (map[string]bool, uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	granted, ok := p.consents[ref] // never written again
	return granted, p.version, ok
}

// learn keeps consents that were read, unless one has changed since.
func (p *people) learn(ref store.SubjectRef, granted map[string]bool, version uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version != version {
		return
	}
	if len(p.consents) >= keptConsents {
		clear(p.consents)
	}
	p.consents[ref] = maps.Clone(granted)
}

// changed forgets the consents of a person.
func (p *people) changed(ref store.SubjectRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.consents, ref)
	p.version++
}
