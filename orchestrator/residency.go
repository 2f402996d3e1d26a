package orchestrator

import (
	"errors"
	"slices"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/poolregistry"
)

// regionNames writes regions as the core and the store know them: the country,
// or the group where no country is named. No list is nil, which is all of them; an
// empty one stays empty, which is none.
func regionNames(regions []poolregistry.Region) []string {
	if regions == nil {
		return nil
	}
	out := make([]string, 0, len(regions))
	for _, r := range regions {
		name := r.Country
		if name == "" {
			name = r.Group
		}
		out = append(out, name)
	}
	return out
}

// groupOf is the group that a country lies in, "" if there is none of that name.
func groupOf(name string) string {
	r, err := poolregistry.ParseRegion(name)
	if err != nil {
		return ""
	}
	return r.Group
}

// regionsOf is the reverse: a name of two letters is a country unless it is a group.
func regionsOf(names []string) []poolregistry.Region {
	var out []poolregistry.Region
	for _, n := range names {
		r := poolregistry.Region{Country: n}
		if len(n) != 2 || n == "EU" || n == "US" {
			r = poolregistry.Region{Group: n}
		}
		out = append(out, r)
	}
	return out
}

// errResidency reports a worker outside the allowed regions.
var errResidency = errors.New("orchestrator: the worker is outside the allowed regions")

// rules are the lists of regions that each hold for a task; nil ones allow all.
func (o *Orchestrator) regionRules(r *run) [][]string {
	rules := [][]string{regionNames(o.cfg.Residency), regionNames(r.spec.Regions)}
	if o.cfg.Tenants != nil {
		policy, _ := o.cfg.Tenants(r.owner.Tenant)
		rules = append(rules, regionNames(policy.Regions))
	}
	return rules
}

// residencyHolds checks, apart from the core and just before the body is opened,
// that the worker stands in every list of regions (ORC-844). A violation is told.
func (o *Orchestrator) residencyHolds(r *run, w *placement.Worker) error {
	for _, allowed := range o.regionRules(r) {
		if allowed != nil && !within(allowed, w) {
			o.observe.Observe(observe.Violation{Task: r.id.String(), Correlation: r.spec.Correlation, Owner: r.owner, Rule: "residency"})
			return errResidency
		}
	}
	return nil
}

// within reports whether a worker is known to stand in one of the regions.
func within(allowed []string, w *placement.Worker) bool {
	return w.Country != "" && slices.Contains(allowed, w.Country) ||
		w.Group != "" && w.Group != "UNKNOWN" && slices.Contains(allowed, w.Group)
}

// residencyClass is the failure that ends a task whose residency does not hold.
func (o *Orchestrator) residencyClass(r *run) exec.Class {
	for _, allowed := range o.regionRules(r) {
		if len(allowed) == 1 && allowed[0] == "EU" {
			return exec.RegionEU
		}
	}
	return exec.Region
}

// regionsAllowed are those of a task: its tenant's and its own. The core narrows
// them by the installation's at every decision.
func (o *Orchestrator) regionsAllowed(r *run) []string {
	if r.use.tenant == nil {
		return regionNames(r.spec.Regions)
	}
	return commonRegions(regionNames(o.tenants.policyOf(r.use.tenant).Regions), regionNames(r.spec.Regions))
}

// commonRegions are the regions of both lists; nil is all, empty is none. A
// country lies in its group.
func commonRegions(a, b []string) []string {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	out := []string{}
	for _, pair := range [2][2][]string{{a, b}, {b, a}} {
		for _, r := range pair[0] {
			if !slices.Contains(out, r) && (slices.Contains(pair[1], r) || slices.Contains(pair[1], groupOf(r))) {
				out = append(out, r)
			}
		}
	}
	return out
}
