"""Fast paths with slow twins under tests/reference: selective scan and hidden attention."""
