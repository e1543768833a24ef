"""Which models there are, what they are, how they read a text, and whether a request fits them.

The service and the workers judge a request with this one package. It reads configs and tokenizers,
never weights, and opens no connection.
"""
