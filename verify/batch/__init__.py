"""Many questions about many models: each is a job in a process of its own, on this machine or on a cluster."""
