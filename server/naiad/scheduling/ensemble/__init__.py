"""Requests that run through several models: the plan, the steps' requests, one run, the scheduler."""
