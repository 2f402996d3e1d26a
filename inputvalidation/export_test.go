package inputvalidation

// AllRules is every rule that this package produces.
var AllRules = []Rule{
	RuleEmpty, RuleTooLong, RuleCharset, RuleUTF8, RuleSyntax, RuleScheme, RuleRange, RuleNaN, RuleBounds, RuleTraversal,
	RuleSymlink, RuleOutside, RuleNotRegular, RuleDuplicate, RuleDepth, RuleAddress, ruleNotExist, ruleExists, rulePermission, ruleIO,
}

// The atomic file with its directory in the test's hands.
type (
	WriteDir    = writeDir
	WriteHandle = writeHandle
	RootDir     = rootDir
)

var (
	ReplaceFile = replaceFile
	MakeDir     = makeDir
	OpenSame    = openSame
	OpenSameDir = openSameDir
)
