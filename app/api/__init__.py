"""HTTP in, HTTP out: routes parse, call one command or view, and answer."""
