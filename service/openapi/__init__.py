"""The OpenAPI document: schemas of the contract, problems and examples of every route."""
