"""What a user types or imports: the command line and the embedded stack."""
