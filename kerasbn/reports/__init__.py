"""Reports: what was found, as a table, a picture or a page to show around."""
