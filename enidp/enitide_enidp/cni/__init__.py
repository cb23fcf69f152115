"""The CNI's words: requests as the plugin hands them over, results and errors as runtimes want them, the conflist."""
