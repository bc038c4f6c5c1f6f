"""Small classifiers to verify, trained and exported by one command each."""
