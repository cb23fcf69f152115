"""How a lab is built, found again and taken down: folders, cgroups, mounts, namespaces, processes and their record."""
