"""Shared memory that clients register: named regions, their leases, and the parameters that name them."""
