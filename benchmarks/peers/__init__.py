"""Other ways to the numbers of this package, written anew from their published formulas.

tests/benchmarks checks that they give the same numbers; only then is their time worth comparing.
"""
