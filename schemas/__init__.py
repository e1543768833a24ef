"""The contract: requests, jobs, results, problems, settings and names. Imports nothing of ours."""
