package poolregistry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// A Region says where a node stands. It is only ever stated, never guessed from
// a name or an address. The zero Region is UNKNOWN.
type Region struct {
	Country  string `json:"country,omitzero"`  // ISO 3166-1 alpha-2, or "" if only the group is stated
	Group    string `json:"group"`             // EU, US, ASIA, OTHER, UNKNOWN
	Evidence string `json:"evidence,omitzero"` // who says so; at most 128 bytes
}

// ISO 3166-1 alpha-2 codes and their groups, as of 2025-01-01: EU is the 27
// member states; ASIA is the United Nations region Asia and Taiwan, without the
// EU member Cyprus.
const (
	euCountries   = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
	asiaCountries = "AE AF AM AZ BD BH BN BT CN GE HK ID IL IN IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE"
	allOther      = "AD AG AI AL AO AQ AR AS AU AW AX BA BB BF BI BJ BL BM BO BQ BR BS BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CO CR CU CV CW CX DJ DM DO DZ EC EG EH ER ET FJ FK FM FO GA GB GD GF GG GH GI GL GM GN GP GQ GS GT GU GW GY HM HN HT IM IO IS JE JM KE KI KM KN KY LC LI LR LS LY MA MC MD ME MF MG MH MK ML MP MQ MR MS MU MW MX MZ NA NC NE NF NG NI NO NR NU NZ PA PE PF PG PM PN PR PW PY RE RS RU RW SB SC SD SH SJ SL SM SN SO SR SS ST SV SX SZ TC TD TF TG TK TN TO TT TV TZ UA UG UM UY VA VC VE VG VI VU WF WS YT ZA ZM ZW"
)

// Groups of regions.
const (
	groupEU      = "EU"
	groupUS      = "US"
	groupAsia    = "ASIA"
	groupOther   = "OTHER"
	groupUnknown = "UNKNOWN"
)

func isGroup(s string) bool {
	return slices.Contains([]string{groupEU, groupUS, groupAsia, groupOther, groupUnknown}, s)
}

// groupOf returns the group of a country, or "" if there is no such country.
func groupOf(country string) string {
	if len(country) != 2 || strings.Contains(country, " ") {
		return ""
	}
	for _, g := range [][2]string{{groupUS, "US"}, {groupEU, euCountries}, {groupAsia, asiaCountries}, {groupOther, allOther}} {
		if strings.Contains(g[1], country) {
			return g[0]
		}
	}
	return ""
}

// ParseRegion reads "DE", "EU", "EU-DE", "unknown" or "", in any letter case.
// A group that is not the country's own, or a word that is neither, is an
// [*Error] with code [InvalidNode]. "EU" names the group; there is no such
// country.
func ParseRegion(s string) (Region, error) {
	r, fault := Region{}, faultTooLong
	if len(s) <= 16 {
		r = splitRegion(s)
		fault = r.fill()
	}
	if fault != "" {
		return Region{}, &Error{Code: InvalidNode, Fields: []string{"region: " + fault}}
	}
	return r, nil
}

// splitRegion tells group and country apart and checks neither.
func splitRegion(s string) Region {
	s = strings.ToUpper(s)
	if group, country, ok := strings.Cut(s, "-"); ok {
		return Region{Group: group, Country: country}
	}
	if s == "" || s == groupUS || !isGroup(s) {
		return Region{Country: s}
	}
	return Region{Group: s}
}

// fill completes and checks r; it returns a fault code or "".
func (r *Region) fill() string {
	r.Country, r.Group = strings.ToUpper(r.Country), strings.ToUpper(r.Group)
	if r.Group != "" && !isGroup(r.Group) {
		return faultCharset
	}
	if r.Country == "" {
		r.Group = cmp.Or(r.Group, groupUnknown)
		return ""
	}
	own := groupOf(r.Country)
	switch {
	case own == "":
		return faultCharset
	case r.Group != "" && r.Group != own:
		return faultMismatch
	}
	r.Group = own
	return ""
}

// String returns the shortest text that [ParseRegion] reads back: "EU-DE", "US",
// "ASIA" or "UNKNOWN". It leaves out the evidence.
func (r Region) String() string {
	switch {
	case r.Country == "":
		return cmp.Or(r.Group, groupUnknown)
	case r.Group == "" || r.Group == r.Country:
		return r.Country
	}
	return r.Group + "-" + r.Country
}

// UnmarshalJSON accepts an object, or a string that [ParseRegion] would read.
// What it states is checked when the node registers.
func (r *Region) UnmarshalJSON(b []byte) error {
	if s, ok, err := bareString(bytes.TrimSpace(b)); ok {
		*r = splitRegion(s)
		return err
	}
	type plain Region
	return json.Unmarshal(b, (*plain)(r))
}
