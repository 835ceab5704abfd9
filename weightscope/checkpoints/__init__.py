"""Where weights come from: references, headers, files, live models. Floor 1."""
