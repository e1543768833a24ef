"""Pure functions of mixer traces: what a layer's hidden attention says, method by method."""
