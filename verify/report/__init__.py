"""One HTML page from the results of other commands: figures by question, certificates and whether they hold."""
