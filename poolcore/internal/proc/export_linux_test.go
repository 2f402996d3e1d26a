package proc

// ParseListener exposes parseListener.
var ParseListener = parseListener
