"""Who may talk to whom: identities, three policy languages, one evaluator, and the kernel's map entries. Pure."""
