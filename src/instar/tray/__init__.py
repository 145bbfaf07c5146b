"""`instar tray`: one photograph as a page to zoom into, with what was found and what was missed."""
