"""`lowtide …`: thin commands that wire the objects by hand."""
