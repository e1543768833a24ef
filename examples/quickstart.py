"""Which token did the model read for its answer? Needs a service: `mambascope up`.

`python examples/quickstart.py`; MAMBASCOPE_URL and MAMBASCOPE_KEY say where and as whom.
"""

from mambascope import Client

with Client() as client:
    analysis = client.analyze(
        "apple 3 river 7 stone 1 river",
        layers="all",
        target={"token": "7", "contrast": "3"},
        attention={"methods": ["contribution"]},
    )
    target = analysis.text().target
    print(f"{target.token.token!r} with p = {target.token.probability:.3f}, read from")
    for token, relevance in analysis.relevance():
        print(f"  {token:>6} {relevance:8.2f} {'#' * round(relevance)}")
    paths = analysis.save("quickstart-output")
    print(f"The result and its figures, {len(paths)} files, are in quickstart-output/")
