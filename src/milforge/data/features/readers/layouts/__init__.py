"""How the files of bags lie in their folders: a module for each layout."""
